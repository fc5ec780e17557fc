#pragma once

namespace petrel {

// SQLite writes each page of its write-ahead log with two system calls. Files that are opened
// through this file system (for sqlite3_open_v2) write what a commit appends to the log with one:
// it is kept until SQLite syncs, reads, cuts or measures the log, or it is 120 KiB long. All
// else goes to the default file system of the moment. With synchronous=FULL each commit syncs the
// log, so that nothing is kept longer than it; a write that fails is told by the sync, behind which
// SQLite takes the transaction back. Not for logs that several processes read.
// nullptr: no memory. Thread-safe.
const char* batched_wal_vfs();

}  // namespace petrel
