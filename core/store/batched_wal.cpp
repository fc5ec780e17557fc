#include "core/store/batched_wal.hpp"

#include <cstddef>
#include <memory>
#include <new>
#include <sqlite3.h>
#include <string>
#include <utility>

namespace petrel {

namespace {

// SQLite's own file systems take less than 128 KiB at a time (os_unix.c, seekAndWriteFd).
constexpr std::size_t kWalBufferBytes = 120 << 10;

// Of an open file, of whatever file system: ours says it before it is known which that will be.
constexpr int kFileBytesMax = 512;

struct CloseFile {
    void operator()(sqlite3_file* file) const {
        if (file->pMethods != nullptr) (void)file->pMethods->xClose(file);
        sqlite3_free(file);
    }
};
using RealFile = std::unique_ptr<sqlite3_file, CloseFile>;

// The log of one database. Only one thread at a time uses it, as its connection.
class WalFile {
public:
    explicit WalFile(RealFile real) : real_(std::move(real)) {}

    int write(const char* from, std::size_t size, sqlite3_int64 at) {
        const bool goes_on = at == end() && buffer_.size() + size <= kWalBufferBytes;
        if (!buffer_.empty() && !goes_on) {
            if (const int code = flush()) return code;
        }
        if (buffer_.empty()) at_ = at;
        try {
            buffer_.append(from, size);
        } catch (const std::bad_alloc&) {
            return SQLITE_IOERR_NOMEM;
        }
        return SQLITE_OK;
    }

    // What cannot be written is dropped: SQLite, which hears of it, writes it anew or not at all.
    int flush() {
        if (buffer_.empty()) return SQLITE_OK;
        const int code = write_now(buffer_.data(), buffer_.size(), at_);
        buffer_.clear();
        return code;
    }

    sqlite3_file* real() { return real_.get(); }

private:
    sqlite3_int64 end() const { return at_ + static_cast<sqlite3_int64>(buffer_.size()); }
    int write_now(const char* from, std::size_t size, sqlite3_int64 at) {
        return real_->pMethods->xWrite(real_.get(), from, static_cast<int>(size), at);
    }

    RealFile real_;
    std::string buffer_;  // What comes at at_.
    sqlite3_int64 at_ = 0;
};

struct Handle {
    sqlite3_file base;
    WalFile* wal;
};

WalFile& wal_of(sqlite3_file* file) { return *reinterpret_cast<Handle*>(file)->wal; }

// Of a call that must see the file as it should be.
template <class Call>
int flushed(sqlite3_file* file, Call call) {
    WalFile& wal = wal_of(file);
    if (const int code = wal.flush()) return code;
    return call(wal.real());
}

// Version 1: no shared memory, which belongs to the database's file.
sqlite3_io_methods make_methods() {
    sqlite3_io_methods made = {};
    made.iVersion = 1;
    made.xClose = [](sqlite3_file* file) {
        WalFile* const wal = reinterpret_cast<Handle*>(file)->wal;
        const int code = wal->flush();
        delete wal;
        return code;
    };
    made.xRead = [](sqlite3_file* file, void* to, int size, sqlite3_int64 at) {
        return flushed(
            file, [&](sqlite3_file* real) { return real->pMethods->xRead(real, to, size, at); });
    };
    made.xWrite = [](sqlite3_file* file, const void* from, int size, sqlite3_int64 at) {
        return wal_of(file).write(static_cast<const char*>(from), static_cast<std::size_t>(size),
                                  at);
    };
    made.xTruncate = [](sqlite3_file* file, sqlite3_int64 size) {
        return flushed(file,
                       [&](sqlite3_file* real) { return real->pMethods->xTruncate(real, size); });
    };
    made.xSync = [](sqlite3_file* file, int flags) {
        return flushed(file,
                       [&](sqlite3_file* real) { return real->pMethods->xSync(real, flags); });
    };
    made.xFileSize = [](sqlite3_file* file, sqlite3_int64* size) {
        return flushed(file,
                       [&](sqlite3_file* real) { return real->pMethods->xFileSize(real, size); });
    };
    made.xLock = [](sqlite3_file* file, int level) {
        sqlite3_file* const real = wal_of(file).real();
        return real->pMethods->xLock(real, level);
    };
    made.xUnlock = [](sqlite3_file* file, int level) {
        sqlite3_file* const real = wal_of(file).real();
        return real->pMethods->xUnlock(real, level);
    };
    made.xCheckReservedLock = [](sqlite3_file* file, int* is_reserved) {
        sqlite3_file* const real = wal_of(file).real();
        return real->pMethods->xCheckReservedLock(real, is_reserved);
    };
    made.xFileControl = [](sqlite3_file* file, int what, void* with) {
        sqlite3_file* const real = wal_of(file).real();
        return real->pMethods->xFileControl(real, what, with);
    };
    made.xSectorSize = [](sqlite3_file* file) {
        sqlite3_file* const real = wal_of(file).real();
        return real->pMethods->xSectorSize(real);
    };
    made.xDeviceCharacteristics = [](sqlite3_file* file) {
        sqlite3_file* const real = wal_of(file).real();
        return real->pMethods->xDeviceCharacteristics(real);
    };
    return made;
}

const sqlite3_io_methods& methods() {
    static const sqlite3_io_methods made = make_methods();
    return made;
}

// The default one, of the moment.
sqlite3_vfs* real_vfs() { return sqlite3_vfs_find(nullptr); }

int open_wal(sqlite3_vfs* vfs, const char* name, sqlite3_file* file, int flags, int* out_flags) {
    auto* const real = static_cast<sqlite3_file*>(sqlite3_malloc(vfs->szOsFile));
    if (real == nullptr) return SQLITE_NOMEM;
    real->pMethods = nullptr;
    RealFile opened(real);
    if (const int code = vfs->xOpen(vfs, name, real, flags, out_flags)) return code;
    auto* const handle = reinterpret_cast<Handle*>(file);
    handle->wal = new (std::nothrow) WalFile(std::move(opened));
    if (handle->wal == nullptr) return SQLITE_NOMEM;
    handle->base.pMethods = &methods();
    return SQLITE_OK;
}

int open_file(sqlite3_vfs*, const char* name, sqlite3_file* file, int flags, int* out_flags) {
    file->pMethods = nullptr;
    sqlite3_vfs* const vfs = real_vfs();
    if ((flags & SQLITE_OPEN_WAL) != 0) return open_wal(vfs, name, file, flags, out_flags);
    if (vfs->szOsFile > kFileBytesMax) return SQLITE_CANTOPEN;
    return vfs->xOpen(vfs, name, file, flags, out_flags);
}

sqlite3_vfs make_vfs() {
    sqlite3_vfs made = {};
    made.iVersion = 2;
    made.szOsFile = kFileBytesMax;
    made.mxPathname = real_vfs()->mxPathname;
    made.zName = "petrel-batched-wal";
    made.xOpen = open_file;
    made.xDelete = [](sqlite3_vfs*, const char* name, int sync) {
        return real_vfs()->xDelete(real_vfs(), name, sync);
    };
    made.xAccess = [](sqlite3_vfs*, const char* name, int flags, int* result) {
        return real_vfs()->xAccess(real_vfs(), name, flags, result);
    };
    made.xFullPathname = [](sqlite3_vfs*, const char* name, int size, char* out) {
        return real_vfs()->xFullPathname(real_vfs(), name, size, out);
    };
    // Extensions are not loaded: no xDlOpen and the like.
    made.xRandomness = [](sqlite3_vfs*, int size, char* out) {
        return real_vfs()->xRandomness(real_vfs(), size, out);
    };
    made.xSleep = [](sqlite3_vfs*, int microseconds) {
        return real_vfs()->xSleep(real_vfs(), microseconds);
    };
    made.xCurrentTime = [](sqlite3_vfs*, double* days) {
        return real_vfs()->xCurrentTime(real_vfs(), days);
    };
    made.xGetLastError = [](sqlite3_vfs*, int size, char* out) {
        return real_vfs()->xGetLastError(real_vfs(), size, out);
    };
    made.xCurrentTimeInt64 = [](sqlite3_vfs*, sqlite3_int64* now) {
        return real_vfs()->xCurrentTimeInt64(real_vfs(), now);
    };
    return made;
}

}  // namespace

const char* batched_wal_vfs() {
    static const bool is_ready = sqlite3_initialize() == SQLITE_OK;
    static sqlite3_vfs vfs = is_ready ? make_vfs() : sqlite3_vfs{};
    static const bool is_registered = is_ready && sqlite3_vfs_register(&vfs, 0) == SQLITE_OK;
    return is_registered ? vfs.zName : nullptr;
}

}  // namespace petrel
