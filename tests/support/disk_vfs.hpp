#pragma once

#include <algorithm>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <sqlite3.h>

#include <doctest/doctest.h>

namespace petrel::test {

// While it lives, SQLite's default file system: the real one, that fails when told to, tells of
// every step, and knows what a power cut would leave. Thread-safe; one at a time.
class DiskVfs {
public:
    DiskVfs() : real_(sqlite3_vfs_find(nullptr)), vfs_(*real_) {
        vfs_.zName = "petrel-disk";
        vfs_.pAppData = this;
        vfs_.szOsFile = static_cast<int>(sizeof(File)) + real_->szOsFile;
        vfs_.xOpen = [](sqlite3_vfs* vfs, const char* name, sqlite3_file* file, int flags,
                        int* out_flags) { return of(vfs).open(name, file, flags, out_flags); };
        vfs_.xDelete = [](sqlite3_vfs* vfs, const char* name, int sync) {
            return of(vfs).remove(name, sync);
        };
        REQUIRE(sqlite3_vfs_register(&vfs_, 1) == SQLITE_OK);
    }
    ~DiskVfs() {
        sqlite3_vfs_unregister(&vfs_);
        sqlite3_vfs_register(real_, 1);
    }
    DiskVfs(const DiskVfs&) = delete;
    DiskVfs& operator=(const DiskVfs&) = delete;

    // The next `count` writes succeed, those after them fail with `code` until heal().
    void fail_writes(int code, int count = 0) { set(write_fault_, code, count); }
    void fail_syncs(int code, int count = 0) { set(sync_fault_, code, count); }
    void heal() {
        set(write_fault_, SQLITE_OK, 0);
        set(sync_fault_, SQLITE_OK, 0);
    }
    // The disk has no room for a log of more than `bytes`.
    void limit_log(std::size_t bytes) {
        const std::lock_guard<std::mutex> lock(mutex_);
        log_max_ = bytes;
    }
    int failures() const {
        const std::lock_guard<std::mutex> lock(mutex_);
        return failures_;
    }
    int syncs() const {
        const std::lock_guard<std::mutex> lock(mutex_);
        return syncs_;
    }

    // From now on whoever syncs waits for release_syncs().
    void hold_syncs() {
        const std::lock_guard<std::mutex> lock(mutex_);
        is_held_ = true;
    }
    void wait_for_held_sync() {
        std::unique_lock<std::mutex> lock(mutex_);
        changed_.wait(lock, [this] { return held_ > 0; });
    }
    void release_syncs() {
        const std::lock_guard<std::mutex> lock(mutex_);
        is_held_ = false;
        changed_.notify_all();
    }

    // Called after each write, sync and truncation, on the thread that does it.
    void set_on_step(std::function<void()> on_step) {
        const std::lock_guard<std::mutex> lock(mutex_);
        on_step_ = std::move(on_step);
    }

    // What a power cut now would leave of the files of `folder`, written to `target`: all that was
    // synced, and of the writes since then those for which `survives` returns true.
    void cut_power(const std::filesystem::path& folder, const std::filesystem::path& target,
                   const std::function<bool()>& survives) const {
        const std::lock_guard<std::mutex> lock(mutex_);
        std::filesystem::create_directories(target);
        for (const auto& [path, disk] : disks_) {
            if (path.parent_path() != folder) continue;
            std::string content = disk.synced;
            for (const Write& write : disk.unsynced) {
                if (survives()) apply(write, content);
            }
            std::ofstream(target / path.filename(), std::ios::binary) << content;
        }
    }

private:
    static constexpr std::size_t kSectorBytes = 512;

    struct Write {
        std::size_t at = 0;
        std::string bytes;
        bool is_truncation = false;
    };
    struct Disk {
        std::string synced;
        std::vector<Write> unsynced;
    };
    struct Fault {
        int code = SQLITE_OK;
        int left = 0;
    };
    struct File {
        sqlite3_file base;
        DiskVfs* owner;
        std::filesystem::path* path;
        sqlite3_file* real() { return reinterpret_cast<sqlite3_file*>(this + 1); }
        static File& of(sqlite3_file* file) { return *reinterpret_cast<File*>(file); }
    };

    static DiskVfs& of(sqlite3_vfs* vfs) { return *static_cast<DiskVfs*>(vfs->pAppData); }

    static void apply(const Write& write, std::string& content) {
        if (write.is_truncation) {
            content.resize(write.at);
            return;
        }
        content.resize(std::max(content.size(), write.at + write.bytes.size()));
        content.replace(write.at, write.bytes.size(), write.bytes);
    }

    static std::string content_of(const std::filesystem::path& path) {
        std::ifstream in(path, std::ios::binary);
        return {std::istreambuf_iterator<char>(in), {}};
    }

    void set(Fault& fault, int code, int count) {
        const std::lock_guard<std::mutex> lock(mutex_);
        fault = {code, count};
    }

    int judge(Fault& fault) {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (fault.code == SQLITE_OK || fault.left-- > 0) return SQLITE_OK;
        ++failures_;
        return fault.code;
    }

    bool is_too_long(const File& file, std::size_t size) {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (!file.path || file.path->string().find("-wal") == std::string::npos) return false;
        const bool is_it = size > log_max_;
        failures_ += is_it ? 1 : 0;
        return is_it;
    }

    int open(const char* name, sqlite3_file* file, int flags, int* out_flags) {
        File& mine = File::of(file);
        mine.owner = this;
        mine.path = nullptr;
        mine.base.pMethods = nullptr;
        const int code = real_->xOpen(real_, name, mine.real(), flags, out_flags);
        if (code != SQLITE_OK) return code;
        mine.base.pMethods = &methods();
        if (name) {
            mine.path = new std::filesystem::path(name);
            const std::lock_guard<std::mutex> lock(mutex_);
            // Whatever was there before the first opening counts as synced.
            if (disks_.count(*mine.path) == 0) disks_[*mine.path].synced = content_of(*mine.path);
        }
        return code;
    }

    int remove(const char* name, int sync) {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            disks_.erase(name);
        }
        return real_->xDelete(real_, name, sync);
    }

    // A power cut may tear a write between any two sectors.
    void note_write(const File& file, std::size_t at, std::string_view bytes) {
        std::vector<Write> sectors;
        while (!bytes.empty()) {
            const std::size_t size = std::min(kSectorBytes - at % kSectorBytes, bytes.size());
            sectors.push_back({at, std::string(bytes.substr(0, size)), false});
            at += size;
            bytes.remove_prefix(size);
        }
        note(file, std::move(sectors));
    }

    void note(const File& file, std::vector<Write> writes) {
        std::function<void()> on_step;
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            if (file.path) {
                auto& unsynced = disks_[*file.path].unsynced;
                std::move(writes.begin(), writes.end(), std::back_inserter(unsynced));
            }
            on_step = on_step_;
        }
        if (on_step) on_step();
    }

    int sync(File& file, int flags) {
        {
            std::unique_lock<std::mutex> lock(mutex_);
            ++syncs_;
            ++held_;
            changed_.notify_all();
            changed_.wait(lock, [this] { return !is_held_; });
            --held_;
        }
        if (const int code = judge(sync_fault_)) return code;
        const int code = file.real()->pMethods->xSync(file.real(), flags);
        std::function<void()> on_step;
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            if (file.path) {
                Disk& disk = disks_[*file.path];
                for (const Write& write : disk.unsynced) apply(write, disk.synced);
                disk.unsynced.clear();
            }
            on_step = on_step_;
        }
        if (on_step) on_step();
        return code;
    }

    // Version 1: no shared memory, which an exclusive connection does not need.
    static const sqlite3_io_methods& methods() {
        static const sqlite3_io_methods table = [] {
            sqlite3_io_methods made = {};
            made.iVersion = 1;
            made.xClose = [](sqlite3_file* file) {
                File& mine = File::of(file);
                delete std::exchange(mine.path, nullptr);
                return mine.real()->pMethods->xClose(mine.real());
            };
            made.xRead = [](sqlite3_file* file, void* to, int size, sqlite3_int64 at) {
                sqlite3_file* real = File::of(file).real();
                return real->pMethods->xRead(real, to, size, at);
            };
            made.xWrite = [](sqlite3_file* file, const void* from, int size, sqlite3_int64 at) {
                File& mine = File::of(file);
                if (const int code = mine.owner->judge(mine.owner->write_fault_)) return code;
                if (mine.owner->is_too_long(mine, static_cast<std::size_t>(at + size))) {
                    return SQLITE_FULL;
                }
                const int code = mine.real()->pMethods->xWrite(mine.real(), from, size, at);
                mine.owner->note_write(
                    mine, static_cast<std::size_t>(at),
                    {static_cast<const char*>(from), static_cast<std::size_t>(size)});
                return code;
            };
            made.xTruncate = [](sqlite3_file* file, sqlite3_int64 size) {
                File& mine = File::of(file);
                const int code = mine.real()->pMethods->xTruncate(mine.real(), size);
                mine.owner->note(mine, {{static_cast<std::size_t>(size), {}, true}});
                return code;
            };
            made.xSync = [](sqlite3_file* file, int flags) {
                return File::of(file).owner->sync(File::of(file), flags);
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
    mutable std::mutex mutex_;  // Guards all below.
    std::condition_variable changed_;
    Fault write_fault_;
    Fault sync_fault_;
    std::size_t log_max_ = SIZE_MAX;
    int failures_ = 0;
    int syncs_ = 0;
    int held_ = 0;  // Threads in a sync that wait.
    bool is_held_ = false;
    std::function<void()> on_step_;
    std::map<std::filesystem::path, Disk> disks_;
};

}  // namespace petrel::test
