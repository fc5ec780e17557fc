#pragma once

#include <sqlite3.h>

#include <doctest/doctest.h>

namespace petrel::test {

// While it lives, SQLite's default file system: the real one, but writes and syncs fail as told.
class FailingVfs {
public:
    FailingVfs() : real_(sqlite3_vfs_find(nullptr)), vfs_(*real_) {
        vfs_.zName = "petrel-failing";
        vfs_.pAppData = this;
        vfs_.szOsFile = static_cast<int>(sizeof(File)) + real_->szOsFile;
        vfs_.xOpen = [](sqlite3_vfs* vfs, const char* name, sqlite3_file* file, int flags,
                        int* out_flags) {
            return static_cast<FailingVfs*>(vfs->pAppData)->open(name, file, flags, out_flags);
        };
        REQUIRE(sqlite3_vfs_register(&vfs_, 1) == SQLITE_OK);
    }
    ~FailingVfs() {
        sqlite3_vfs_unregister(&vfs_);
        sqlite3_vfs_register(real_, 1);
    }
    FailingVfs(const FailingVfs&) = delete;
    FailingVfs& operator=(const FailingVfs&) = delete;

    // The next `count` writes succeed, those after them fail with `code` until heal().
    void fail_writes_after(int count, int code) {
        writes_left_ = count;
        write_error_ = code;
    }
    void fail_syncs_after(int count, int code) {
        syncs_left_ = count;
        sync_error_ = code;
    }
    void fail_reads(int code) { read_error_ = code; }
    void heal() { write_error_ = sync_error_ = read_error_ = SQLITE_OK; }
    int failures() const { return failures_; }
    int syncs() const { return syncs_; }

private:
    struct File {
        sqlite3_file base;
        FailingVfs* owner;
        sqlite3_file* real() { return reinterpret_cast<sqlite3_file*>(this + 1); }
        static File& of(sqlite3_file* file) { return *reinterpret_cast<File*>(file); }
    };

    int open(const char* name, sqlite3_file* file, int flags, int* out_flags) {
        File& mine = File::of(file);
        mine.owner = this;
        mine.base.pMethods = nullptr;
        const int code = real_->xOpen(real_, name, mine.real(), flags, out_flags);
        if (code == SQLITE_OK) mine.base.pMethods = &methods();
        return code;
    }

    int judge(int& left, int error) {
        if (error == SQLITE_OK || left-- > 0) return SQLITE_OK;
        ++failures_;
        return error;
    }

    // Version 1: no shared memory, which an exclusive connection does not need.
    static const sqlite3_io_methods& methods() {
        static const sqlite3_io_methods table = [] {
            sqlite3_io_methods made = {};
            made.iVersion = 1;
            made.xClose = [](sqlite3_file* file) {
                sqlite3_file* real = File::of(file).real();
                return real->pMethods->xClose(real);
            };
            made.xRead = [](sqlite3_file* file, void* to, int size, sqlite3_int64 at) {
                FailingVfs& owner = *File::of(file).owner;
                if (owner.read_error_ != SQLITE_OK) return owner.read_error_;
                sqlite3_file* real = File::of(file).real();
                return real->pMethods->xRead(real, to, size, at);
            };
            made.xWrite = [](sqlite3_file* file, const void* from, int size, sqlite3_int64 at) {
                FailingVfs& owner = *File::of(file).owner;
                if (const int code = owner.judge(owner.writes_left_, owner.write_error_)) {
                    return code;
                }
                sqlite3_file* real = File::of(file).real();
                return real->pMethods->xWrite(real, from, size, at);
            };
            made.xTruncate = [](sqlite3_file* file, sqlite3_int64 size) {
                sqlite3_file* real = File::of(file).real();
                return real->pMethods->xTruncate(real, size);
            };
            made.xSync = [](sqlite3_file* file, int flags) {
                FailingVfs& owner = *File::of(file).owner;
                ++owner.syncs_;
                if (const int code = owner.judge(owner.syncs_left_, owner.sync_error_)) {
                    return code;
                }
                sqlite3_file* real = File::of(file).real();
                return real->pMethods->xSync(real, flags);
            };
            made.xFileSize = [](sqlite3_file* file, sqlite3_int64* size) {
                sqlite3_file* real = File::of(file).real();
                return real->pMethods->xFileSize(real, size);
            };
            made.xLock = [](sqlite3_file* file, int level) {
                sqlite3_file* real = File::of(file).real();
                return real->pMethods->xLock(real, level);
            };
            made.xUnlock = [](sqlite3_file* file, int level) {
                sqlite3_file* real = File::of(file).real();
                return real->pMethods->xUnlock(real, level);
            };
            made.xCheckReservedLock = [](sqlite3_file* file, int* is_reserved) {
                sqlite3_file* real = File::of(file).real();
                return real->pMethods->xCheckReservedLock(real, is_reserved);
            };
            made.xFileControl = [](sqlite3_file* file, int what, void* with) {
                sqlite3_file* real = File::of(file).real();
                return real->pMethods->xFileControl(real, what, with);
            };
            made.xSectorSize = [](sqlite3_file* file) {
                sqlite3_file* real = File::of(file).real();
                return real->pMethods->xSectorSize(real);
            };
            made.xDeviceCharacteristics = [](sqlite3_file* file) {
                sqlite3_file* real = File::of(file).real();
                return real->pMethods->xDeviceCharacteristics(real);
            };
            return made;
        }();
        return table;
    }

    sqlite3_vfs* const real_;
    sqlite3_vfs vfs_;
    int writes_left_ = 0;
    int syncs_left_ = 0;
    int write_error_ = SQLITE_OK;
    int sync_error_ = SQLITE_OK;
    int read_error_ = SQLITE_OK;
    int failures_ = 0;
    int syncs_ = 0;
};

}  // namespace petrel::test
