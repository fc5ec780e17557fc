// How jemalloc, with which this program is linked where it is there, deals with memory.
//
// A gateway's messages are allocated by one thread and freed by another, and those that stay fill
// ever new pages. glibc's arenas grow by one page and one mprotect() at a time; jemalloc with huge
// pages takes 2 MiB with one fault (measured: half of the gateway's CPU at full load). What is free
// goes back to the system after half a minute.

extern "C" {
// The name and the form are jemalloc's (jemalloc(3), "TUNING"); without it nobody reads this.
__attribute__((visibility("default"))) extern const char* malloc_conf;
const char* malloc_conf = "thp:always,metadata_thp:auto,dirty_decay_ms:30000";
}
