/* Petrel: messages that arrive exactly once, in order, through any storm.
 *
 * The whole interface of libpetrel, C99. A client keeps one user logged in to a Petrel gateway,
 * sends and receives, and tells what becomes of every message. In short:
 *
 *     petrel_runtime *runtime = NULL;
 *     petrel_client *client = NULL;
 *     petrel_client_options options;
 *
 *     petrel_client_options_init(&options, sizeof options);
 *     options.url = "wss://chat.example/ws";
 *     options.user = "alice";
 *     options.token = token;
 *     options.on_event = on_event;
 *
 *     petrel_runtime_create(&runtime);
 *     petrel_client_create(runtime, &options, &client);
 *     petrel_client_login(client);
 *     petrel_client_send(client, "bob", "hello", 5, NULL, NULL);
 *     ...
 *     petrel_client_destroy(client);
 *     petrel_runtime_destroy(runtime);
 *
 * Status      Functions return 0 or a code: PETREL_* below, or an app's own (1025 and above) in
 *             events. A NULL or senseless argument is PETREL_BAD_ARGUMENT and changes nothing; a
 *             failure of the library itself (no memory) is PETREL_UNKNOWN.
 * Threads     Every function may be called from any thread and from every callback. Callbacks
 *             come from the runtime's one engine thread, one at a time, with no lock held. They
 *             should be short: all clients of the runtime wait meanwhile.
 * Lifetime    What a function is given is copied before it returns. What an event points to is
 *             valid until the callback returns, or until the next petrel_client_next_event.
 *             A handle must not be used after its destroy returned; in the callback that destroyed
 *             it, it may be: calls then return PETREL_BAD_ARGUMENT.
 * Text        UTF-8. Names (url, user, ...) end with a zero byte. Texts of messages have a size in
 *             bytes and may hold anything; those that come from the library are followed by a zero
 *             byte that does not count.
 * Versions    Structs start with struct_size and only ever grow at their end, so an app that was
 *             built with an older petrel.h goes on working. Times are milliseconds.
 */
#ifndef PETREL_PETREL_H
#define PETREL_PETREL_H

/* clang-format off: laid out by hand. */

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define PETREL_API
#else
#define PETREL_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Grows when something is added. What is here never changes its meaning within one soversion. */
#define PETREL_ABI_VERSION 1

/* ---- codes ---- */

#define PETREL_OK 0
#define PETREL_NOT_LOGGED_IN 1
#define PETREL_UNKNOWN 2             /* Not known any more, or a failure of the library itself. */
#define PETREL_SEND_FAILED 3         /* The outbox is full, or its file cannot be written. */
#define PETREL_INVALID_PACKET 4
#define PETREL_BROKEN_CONNECTION 201
#define PETREL_BAD_CONNECTION 202
#define PETREL_BAD_ARGUMENT 203      /* "Not initialised" of the protocol. */
#define PETREL_NO_LOCAL_NETWORK 204
#define PETREL_NO_SERVER_ADDRESS 205
#define PETREL_LOGIN_REQUIRED 301
#define PETREL_BUSY 302
#define PETREL_NO_SUCH_GROUP 303
#define PETREL_TOO_LARGE 304
#define PETREL_FINGERPRINT_REUSED 305
#define PETREL_NOT_ALLOWED 306
#define PETREL_EXPIRED 307
#define PETREL_INBOX_FULL 308
#define PETREL_BAD_TOKEN 401
#define PETREL_TOKEN_EXPIRED 402
#define PETREL_FORBIDDEN 403
#define PETREL_UNKNOWN_APP 404
#define PETREL_SUPERSEDED 409
#define PETREL_LOGIN_BUSY 503

/* Bytes of a fingerprint's text with its zero byte: 1-64 printable ASCII characters. */
#define PETREL_FINGERPRINT_SIZE 65

/* Of a client. */
#define PETREL_STATE_OFFLINE 0       /* Not asked to log in, or logged out. */
#define PETREL_STATE_CONNECTING 1    /* Connecting, logging in, or waiting to try again. */
#define PETREL_STATE_ONLINE 2        /* The login was accepted. */
#define PETREL_STATE_NO_NETWORK 3    /* petrel_client_network_lost was called. */
#define PETREL_STATE_STOPPED 4       /* Refused or kicked out for good; login starts again. */

/* What became of a message. */
#define PETREL_OUTCOME_ACCEPTED 0    /* The gateway's store has it durably. */
#define PETREL_OUTCOME_REJECTED 1    /* `code` says why. */
#define PETREL_OUTCOME_EXPIRED 2
#define PETREL_OUTCOME_CANCELLED 3   /* By cancel, logout with discard, destroy before it left. */
#define PETREL_OUTCOME_LOST 4        /* Plain profiles: no ack. A correction may follow. */
#define PETREL_OUTCOME_UNKNOWN 5     /* In flight when a client without a file was destroyed. */

/* `typeu` of a message; others belong to the app. */
#define PETREL_TYPEU_SINGLE 0        /* `to` is a user. */
#define PETREL_TYPEU_GROUP 1         /* `to` is a group. */

#define PETREL_LOG_DEBUG 0
#define PETREL_LOG_INFO 1
#define PETREL_LOG_WARNING 2
#define PETREL_LOG_ERROR 3
#define PETREL_LOG_NONE 4            /* As log_level: nothing. */

/* ---- handles ---- */

typedef struct petrel_runtime petrel_runtime;         /* One engine thread. */
typedef struct petrel_client petrel_client;           /* One user, logged in. */
typedef struct petrel_connection petrel_connection;   /* Of a host's transport. */

/* ---- events ---- */

#define PETREL_EVENT_STATE 1
#define PETREL_EVENT_LOGIN 2
#define PETREL_EVENT_MESSAGE 3
#define PETREL_EVENT_OUTCOME 4
#define PETREL_EVENT_DELIVERED 5
#define PETREL_EVENT_TOKEN_NEEDED 6
#define PETREL_EVENT_KICKED 7
#define PETREL_EVENT_BREAK 8
#define PETREL_EVENT_ERROR 9
#define PETREL_EVENT_ECHO 10

/* Strings of events are never NULL; "" when there is nothing to say. */

typedef struct petrel_state_event {
    uint32_t struct_size;
    int32_t state;             /* PETREL_STATE_*. */
    int32_t code;              /* Close or refusal code that led here; 0: none did. */
    int32_t reserved;
    const char *reason;
} petrel_state_event;

/* The result of every login, those that Petrel makes by itself included. */
typedef struct petrel_login_event {
    uint32_t struct_size;
    int32_t code;              /* 0: online. Else why not: 401, 402, 403... */
    const char *message;       /* The server's words, of a refusal. */
    const char *profile;       /* "petrel.v1", "im-sdk" or "mobileimsdk". */
    uint64_t generation;       /* Of the login, by the server; petrel.v1. */
    uint32_t will_retry;       /* 1: Petrel tries again by itself. */
    uint32_t reserved;
} petrel_login_event;

typedef struct petrel_message_event {
    uint32_t struct_size;
    int32_t typeu;
    uint64_t id;               /* For petrel_client_confirm; grows. */
    const char *from;
    const char *to;
    const char *fingerprint;   /* "" is possible when qos is 0. */
    const char *text;
    uint64_t text_size;        /* Bytes. */
    const char *conversation;  /* petrel.v1, as are the next three; else "" and 0. */
    uint64_t cseq;             /* Its number in the conversation; the order of all members. */
    const char *epoch;         /* With seq: its place in this user's inbox. An app that keeps */
    uint64_t seq;              /* (epoch, seq) beside its data handles each exactly once. */
    int64_t send_ts;           /* The server's clock, ms since 1970; 0: not told. */
    uint32_t qos;              /* 1: sent with QoS. */
    uint32_t is_redelivered;   /* 1: stored by an earlier process; perhaps handed over before. */
} petrel_message_event;

/* Comes exactly once for every message that petrel_client_send took with QoS. */
typedef struct petrel_outcome_event {
    uint32_t struct_size;
    int32_t outcome;           /* PETREL_OUTCOME_*. */
    const char *fingerprint;
    const char *to;
    int32_t code;              /* Of PETREL_OUTCOME_REJECTED. */
    uint32_t attempts;         /* Times it was sent. 0: it was never on the wire. */
    uint64_t cseq;             /* Of PETREL_OUTCOME_ACCEPTED; 0: not told. */
    int64_t send_ts;           /* Likewise, ms since 1970; 0: not told. */
    uint32_t is_correction;    /* 1: it had been reported lost, and was accepted after all. */
    uint32_t reserved;
} petrel_outcome_event;

/* Everything in the conversation up to cseq `delivered` was handled on a device of `user`. */
typedef struct petrel_delivered_event {
    uint32_t struct_size;
    uint32_t reserved;
    const char *conversation;
    const char *user;
    uint64_t delivered;
} petrel_delivered_event;

/*
 * The token has expired: get a new one and call petrel_client_set_token. Once a refusal. On a live
 * connection there is some time for it (the gateway says how much, 60 s by default) and nothing
 * stops meanwhile; after a refused login nothing goes on before it. Of two logins refused so in a
 * row the second is final.
 */
typedef struct petrel_token_needed_event {
    uint32_t struct_size;
    int32_t code;              /* 402, as a rule. */
} petrel_token_needed_event;

/* Logged out by the server, for good: PETREL_STATE_STOPPED follows. */
typedef struct petrel_kicked_event {
    uint32_t struct_size;
    int32_t code;
    const char *reason;
    const char *device;        /* The one that took over. */
} petrel_kicked_event;

#define PETREL_BREAK_INBOX 0
#define PETREL_BREAK_OUTBOX 1

/* A promise that could not be kept. Inbox: messages may be missing, and handed over before may
 * come again. Outbox: the gateway's store lost messages that it had accepted. */
typedef struct petrel_break_event {
    uint32_t struct_size;
    int32_t side;              /* PETREL_BREAK_*. */
    const char *epoch;
    uint64_t resumed_after;    /* The position. */
} petrel_break_event;

/* For logs and people; nothing that the app must act on. */
typedef struct petrel_error_event {
    uint32_t struct_size;
    int32_t code;
    const char *message;
} petrel_error_event;

/* The answer to petrel_client_echo. */
typedef struct petrel_echo_event {
    uint32_t struct_size;
    uint32_t reserved;
    const char *text;
    uint64_t text_size;        /* Bytes. */
    int64_t round_trip_us;     /* Microseconds. */
} petrel_echo_event;

/* `type` says which of `as` it is. Ignore types that you do not know. */
typedef struct petrel_event {
    uint32_t struct_size;
    int32_t type;              /* PETREL_EVENT_*. */
    union {
        const petrel_state_event *state;
        const petrel_login_event *login;
        const petrel_message_event *message;
        const petrel_outcome_event *outcome;
        const petrel_delivered_event *delivered;
        const petrel_token_needed_event *token_needed;
        const petrel_kicked_event *kicked;
        const petrel_break_event *broken;
        const petrel_error_event *error;
        const petrel_echo_event *echo;
    } as;
} petrel_event;

/* ---- a transport of the host's ---- */

/* By it a host supplies the WebSocket (OkHttp, NSURLSession, ...); Petrel then only needs that
 * text frames are carried, whole and in order.
 *
 * The functions of the table are called on the engine thread, must not block, and may report on
 * the connection before they return. What happens is reported by petrel_connection_* from any
 * thread. The last report of every connection is petrel_connection_closed: until then the handle
 * stays valid, whatever becomes of client and runtime; then it must not be used any more.
 * The table and its user_data must outlive the client. */
typedef struct petrel_transport {
    uint32_t struct_size;
    uint32_t reserved;
    void *user_data;
    /* Begins to connect to `url`, asking for `subprotocol` ("": none). Returns 0, or a code when
     * that is impossible: then nothing may be reported. *connection_data is yours and comes back
     * with each call. */
    int32_t (*open)(void *user_data, petrel_connection *connection, const char *url,
                    const char *subprotocol, void **connection_data);
    /* Sends one text frame. Copy it, or be done with it; petrel_connection_sent says when it was
     * given away. */
    void (*send)(void *user_data, void *connection_data, const char *text, size_t text_size);
    /* Once at most. code 1000-4999: send a close frame with it, then close. code 0: cut the
     * connection, nobody waits. petrel_connection_closed must follow, within 5 s. */
    void (*close)(void *user_data, void *connection_data, uint16_t code, const char *reason);
    /* The last call with that connection_data, once after each open that returned 0; it may come
     * before or after your petrel_connection_closed. May be NULL. */
    void (*release)(void *user_data, void *connection_data);
} petrel_transport;

/* The connection is open; `subprotocol` is what the server chose, NULL or "" for none. */
PETREL_API int32_t petrel_connection_opened(petrel_connection *connection,
                                            const char *subprotocol);
/* A text message arrived. Copied. */
PETREL_API int32_t petrel_connection_text(petrel_connection *connection, const char *text,
                                          size_t text_size);
/* A binary message arrived; Petrel only counts it. */
PETREL_API int32_t petrel_connection_binary(petrel_connection *connection, size_t size);
/* So many bytes of what send() was given have left. Petrel sends no more than a bounded amount
 * ahead of it. */
PETREL_API int32_t petrel_connection_sent(petrel_connection *connection, size_t bytes);
/* The connection is gone, or never came to be: the last call with this handle. `code` is of the
 * close frame, 0 or 1006 when there was none. `http_status` and `retry_after_s` of a refused
 * upgrade: 0 and -1 when there was none. `reason` may be NULL. */
PETREL_API int32_t petrel_connection_closed(petrel_connection *connection, uint16_t code,
                                            const char *reason, int32_t http_status,
                                            int64_t retry_after_s);

/* ---- options ---- */

/* Set by petrel_client_options_init; then change what you like. NULL strings are as "". Numbers
 * out of range make petrel_client_create return PETREL_BAD_ARGUMENT: times (..._ms) may be 0 to
 * 3153600000000 (100 years), counts and bytes 0 to 2^40, flags 0 or 1. */
typedef struct petrel_client_options {
    uint32_t struct_size;
    int32_t log_level;              /* on_log hears this level and above. PETREL_LOG_INFO. */

    /* Who and where. */
    const char *url;                /* ws://host[:port]/path or wss://... Needed. */
    const char *user;               /* Needed. At most 256 bytes, as `app`. */
    const char *token;              /* At most 16384 bytes, as `extra`. */
    const char *app;                /* "": the gateway's "default". */
    const char *device;             /* 1-64 characters, the same at each start of an install. "":
                                       the one in the inbox file, or a fresh one. */
    const char *device_class;       /* "mobile", "desktop", "web"; "other". */
    const char *extra;              /* Given to the server at login, untouched. */
    const char *profile;            /* "petrel.v1", "im-sdk" or "mobileimsdk". petrel.v1. */
    const char *storage_path;       /* A directory; made if missing. In it are the files of this
                                       account by which messages survive the process: one outbox,
                                       one inbox, for one client at a time. "": memory only. */
    const char *tls_ca_file;        /* PEM. "": the system's. */

    /* Push: set on_event and get every event on the engine thread. Pull: leave it NULL and call
       petrel_client_next_event. `client` is the one whose event it is. */
    void (*on_event)(void *user_data, petrel_client *client, const petrel_event *event);
    void (*on_log)(void *user_data, petrel_client *client, int32_t level, const char *text);
    void *user_data;                /* Given to both. */
    const petrel_transport *transport;  /* NULL: the built-in one. */

    uint32_t require_v1;            /* 1: stop with an error (205) where no petrel.v1 is spoken.
                                       0: fall back to im-sdk. */
    uint32_t tls_insecure;          /* 1: verifies no certificate: who is in between can
                                       read and change all. Never but in trials. 0. */
    uint32_t manual_confirm;        /* 1: a message is handled when petrel_client_confirm says so.
                                       0: when the callback returned (pull: at the next call). */
    uint32_t window;                /* Messages taken and not handled before the gateway waits; 0:
                                       this client receives nothing. 64. */
    uint32_t window_bytes;          /* The same in bytes of frames. 1048576. */
    uint32_t send_retries;          /* Plain: transmissions after the first. 2. */

    /* The engine. */
    int64_t expires_after_ms;       /* A message unaccepted for so long is expired. Offline and
                                       suspended time count. Never above half of the gateway's
                                       memory of fingerprints. 43200000 (12 h). */
    uint64_t payload_max;           /* Bytes of a text, until the login told the gateway's limit;
                                       beyond: PETREL_TOO_LARGE. 65536. */
    uint64_t socket_packets_max;    /* Transmissions wait while so much is queued on the socket, */
    uint64_t socket_bytes_max;      /* so that a heartbeat never waits behind much. 256; 262144. */
    uint64_t echoes_max;            /* Echoes awaiting an answer; the oldest is forgotten. 1024. */
    uint64_t confirm_ahead_max;     /* Confirmed out of order, ahead of the oldest unconfirmed;
                                       beyond, confirm returns PETREL_SEND_FAILED. 1024. */
    uint64_t unhandled_max;         /* Messages taken and unhandled, of all sessions together; what
                                       comes beyond is asked for again later. 1024. */
    uint64_t notices_max;           /* Waiting events that are neither messages nor outcomes; the
                                       oldest is forgotten. 1024. */
    uint64_t events_max;            /* Pull: events in the queue; beyond, they wait in the engine,
                                       and the gateway with them. At least 1. 65536. */
    int64_t linger_max_ms;          /* How long destroy waits for the goodbye to leave. 500. */
    int64_t handshake_timeout_ms;   /* DNS, TCP, TLS, upgrade of the built-in transport. 10000. */
    uint64_t frame_bytes_max;       /* Of a frame received; beyond, the connection is closed. It
                                       must hold an escaped payload: 397312 (6 x 65536 + 4096). */

    /* Auto-relogin: random waits up to base, 2 x base, 4 x base... up to max. */
    int64_t backoff_base_ms;        /* 500: after a blip at once, as it seems to people. */
    int64_t backoff_max_ms;         /* 30000: what a person waits without giving up. */
    int64_t stable_after_ms;        /* Online so long resets the backoff. 30000. */
    int64_t connect_timeout_ms;     /* An attempt's patience. 10000. */
    int64_t login_timeout_ms;       /* For the answer to the login. 10000. */
    int64_t relogin_first_ms;       /* Plain: fixed pace after a broken link. -1: the profile's. */
    int64_t relogin_interval_ms;    /* Likewise, of all later tries. -1. */
    int64_t told_max_ms;            /* Longest wait a server can impose. 86400000 (24 h). */

    /* Keepalive. */
    int64_t heartbeat_interval_ms;  /* Until the login told the gateway's; plain with patience_ms.
                                       25000: below the 30 s after which many NATs forget. */
    int64_t heartbeat_interval_min_ms;  /* Whatever the server says. 100. */
    int64_t ack_timeout_min_ms;     /* Bounds of the time for an answer, estimated by RFC 6298: a */
    int64_t ack_timeout_max_ms;     /* probe, then the link is dead. 3000; 20000. */
    int64_t patience_ms;            /* Plain: for the answer to a heartbeat, with the interval
                                       above. -1: both are the profile's. */
    int64_t late_after_ms;          /* A timer so late means that the process was paused: read the
                                       socket before judging. 1000; at least 100. */
    int64_t late_grace_ms;          /* One read of the socket, generously. 200. */

    /* QoS send. */
    uint64_t send_window_packets_max;   /* Unacked at once; the gateway may lower both. 64. */
    uint64_t send_window_bytes_max;     /* 1048576. */
    uint64_t kept_max;              /* Messages in the outbox; beyond, send returns
                                       PETREL_SEND_FAILED and changes nothing. 10000. */
    uint64_t kept_bytes_max;        /* Bytes of their texts. 67108864. */
    int64_t pause_max_ms;           /* A busy gateway (302) pauses sending no longer. 600000. */
    int64_t send_check_period_ms;   /* Plain: retry clock. 5000. */
    int64_t retry_not_younger_ms;   /* Plain: not retried before. 3000. */
    uint64_t late_ack_memory;       /* Plain: lost messages whose ack may yet come. 1024. */

    /* QoS receive. */
    uint64_t ack_every_max;         /* One ack for so many messages, at most: half of what would */
    int64_t ack_delay_max_ms;       /* stall a window of 32; or after so long. 16; 20. */
    int64_t gap_interval_ms;        /* Between two complaints about the same gap. 250. */
    int64_t dedup_memory_ms;        /* Plain: a fingerprint is remembered. 600000. */
    int64_t dedup_sweep_ms;         /* Plain: and forgotten at the next sweep. 300000. */
    uint64_t dedup_entries_max;     /* Plain: fingerprints remembered; the oldest goes. 100000. */

    /* TLS, with the built-in transport. One of these public keys must be the server's, or that of
       an authority in its verified chain; beside the usual checks, not instead. Each is the base64
       of the SHA-256 of a SubjectPublicKeyInfo (RFC 7469: 44 characters), with spaces between; at
       most 16, so that a new key can be announced before it is used. With tls_insecure they are
       all that is checked, and must be the server's own. Needs a wss:// url. "": no pins. */
    const char *tls_pins;
} petrel_client_options;

/* Fills in the defaults. `struct_size` is sizeof *options. */
PETREL_API int32_t petrel_client_options_init(petrel_client_options *options, size_t struct_size);

/* ---- runtime ---- */

/* Starts an engine thread, for any number of clients. */
PETREL_API int32_t petrel_runtime_create(petrel_runtime **runtime);

/* Ends the thread, after the last client of it is destroyed: clients that are left keep working
 * and keep the thread. From another thread it waits for the callbacks in which clients were
 * destroyed; from a callback the thread ends in the background. NULL does nothing. */
PETREL_API int32_t petrel_runtime_destroy(petrel_runtime *runtime);

/* ---- client ---- */

/* A client that is not logged in yet. Errors, beside PETREL_BAD_ARGUMENT:
 * PETREL_NO_SERVER_ADDRESS without a url; PETREL_BUSY when another client has the files in
 * storage_path open; PETREL_UNKNOWN when they are of another device, or the disk fails, or one was
 * damaged: that one was renamed, and the next try begins a new one. on_log says which, with
 * `client` NULL, before this returns. */
PETREL_API int32_t petrel_client_create(petrel_runtime *runtime,
                                        const petrel_client_options *options,
                                        petrel_client **client);

/* Ends the client: what has no outcome gets one (or stays in the outbox file), told by on_event
 * before this returns; it waits up to linger_max_ms for the goodbye to leave. From another thread:
 * no callback runs any more when it returns. From a callback of this client it takes effect when
 * that callback returns, and only outcomes follow. No other thread may be in a call with the
 * handle; but one that waits in petrel_client_next_event is let out first, with
 * PETREL_BAD_ARGUMENT, unless this is called from a callback. NULL does nothing. */
PETREL_API int32_t petrel_client_destroy(petrel_client *client);

/* Logs in, and stays logged in until logout: through broken connections, with backoff. Also after
 * PETREL_STATE_STOPPED. Returns at once; PETREL_EVENT_LOGIN tells the result. */
PETREL_API int32_t petrel_client_login(petrel_client *client);

/* keep 1: what is unsent stays, for the next login. keep 0: it ends cancelled. */
PETREL_API int32_t petrel_client_logout(petrel_client *client, int32_t keep);

typedef struct petrel_send_options {
    uint32_t struct_size;
    int32_t typeu;                  /* PETREL_TYPEU_SINGLE. */
    const char *fingerprint;        /* One's own, 1-64 printable ASCII characters, unique for this
                                       sender; NULL or "": a fresh one. Sending the same message
                                       again with it is safe: it is taken once. */
    int64_t expires_after_ms;       /* -1: the client's. It cannot be longer than that. */
    uint32_t qos;                   /* 1. 0: at most once, only while online, and no outcome. */
    uint32_t reserved;
} petrel_send_options;

PETREL_API int32_t petrel_send_options_init(petrel_send_options *options, size_t struct_size);

/* Sends a text of `text_size` bytes. Returns when the outbox has it: with storage_path on disk,
 * which may take milliseconds (from a callback it doesn't wait: should the disk fail then, the
 * outcome is rejected, code 3). `options` NULL: the defaults. `fingerprint` gets the message's
 * name, of PETREL_FINGERPRINT_SIZE bytes, or is NULL; "" for an error. Errors, which change
 * nothing: PETREL_SEND_FAILED full; PETREL_TOO_LARGE; PETREL_INVALID_PACKET not UTF-8, or no `to`;
 * PETREL_FINGERPRINT_REUSED kept with another text; PETREL_NOT_LOGGED_IN without QoS offline. */
PETREL_API int32_t petrel_client_send(petrel_client *client, const char *to, const char *text,
                                      size_t text_size, const petrel_send_options *options,
                                      char fingerprint[PETREL_FINGERPRINT_SIZE]);

/* Gives a message up: its outcome is cancelled, though it may have been accepted if attempts > 0.
 * PETREL_UNKNOWN: it is not here any more. */
PETREL_API int32_t petrel_client_cancel(petrel_client *client, const char *fingerprint);

/* manual_confirm: the message with that id is handled. In any order; idempotent. PETREL_UNKNOWN:
 * never given out. PETREL_SEND_FAILED: confirm_ahead_max. */
PETREL_API int32_t petrel_client_confirm(petrel_client *client, uint64_t message_id);

/* Asks the server for an echo: a round trip through everything. PETREL_NOT_LOGGED_IN while there is
 * no connection. */
PETREL_API int32_t petrel_client_echo(petrel_client *client, const char *text, size_t text_size);

/*
 * A new token; answers PETREL_EVENT_TOKEN_NEEDED and may come before it is asked for. On a live
 * connection it is used at once and nothing is interrupted, else for the next login. Longer than
 * 16384 bytes: PETREL_BAD_ARGUMENT.
 */
PETREL_API int32_t petrel_client_set_token(petrel_client *client, const char *token);

/* Hints of the system. available: there is a (new) network: probe, or connect at once. lost: there
 * is none: don't try. suspend: the process will be paused; resume: it runs again. */
PETREL_API int32_t petrel_client_network_available(petrel_client *client);
PETREL_API int32_t petrel_client_network_lost(petrel_client *client);
PETREL_API int32_t petrel_client_suspend(petrel_client *client);
PETREL_API int32_t petrel_client_resume(petrel_client *client);

/* PETREL_STATE_* in *state. Never waits. */
PETREL_API int32_t petrel_client_state(petrel_client *client, int32_t *state);

/* Since the client was created. */
typedef struct petrel_stats {
    uint32_t struct_size;
    uint32_t reserved;
    uint64_t sent;                  /* Taken from the app, with QoS. */
    uint64_t accepted;
    uint64_t rejected;
    uint64_t expired;
    uint64_t cancelled;
    uint64_t lost;
    uint64_t received;              /* Handed to the app. */
    uint64_t packets_out;
    uint64_t packets_in;
    uint64_t bytes_out;
    uint64_t bytes_in;
    uint64_t retransmitted;
    uint64_t duplicates;            /* Received again, and dropped. */
    uint64_t gaps;                  /* Noticed in what was received. */
    uint64_t malformed;             /* Packets that were none. */
    uint64_t ignored;               /* Packets of unknown types, or out of place. */
    uint64_t unknown_acks;
    uint64_t logins;                /* Accepted. */
    uint64_t reconnects;
    int64_t round_trip_us;          /* Smoothed, microseconds; 0: not measured yet. */
    uint64_t kept;                  /* In the outbox now, in flight included. */
    uint64_t in_flight;             /* Sent and unacked now. */
    uint64_t unhandled;             /* Received and not handled now. */
    uint64_t reconnects_broken;     /* Of reconnects: the connection before was cut or reset, */
    uint64_t reconnects_closed;     /* closed by the server, */
    uint64_t reconnects_silent;     /* or found dead by keepalive. Else this side ended it. */
} petrel_stats;

/* `struct_size` is sizeof *stats. */
PETREL_API int32_t petrel_client_stats(petrel_client *client, petrel_stats *stats,
                                       size_t struct_size);

/* ---- pull ---- */

/* The next event in *event, or NULL when none came in timeout_ms (0: doesn't wait; -1: as long as
 * it takes) or petrel_client_wake was called. In the callback of another client it never waits.
 * The event before counts as handled, and what it points to is gone. One thread at a time:
 * PETREL_BUSY for a second one. PETREL_BAD_ARGUMENT for a client with on_event. */
PETREL_API int32_t petrel_client_next_event(petrel_client *client, const petrel_event **event,
                                            int32_t timeout_ms);

/* Makes a waiting petrel_client_next_event return, or the next one that would wait. */
PETREL_API int32_t petrel_client_wake(petrel_client *client);

/* A descriptor that is readable while events wait, for poll, epoll, CFRunLoop, Looper. Don't read
 * or close it: call petrel_client_next_event with 0 until there is none. Valid until destroy; -1
 * for a client with on_event or no client. */
PETREL_API int32_t petrel_client_event_fd(petrel_client *client);

/* ---- words ---- */

/* One English sentence for any code; valid until the next call on the same thread. */
PETREL_API const char *petrel_strerror(int32_t code);

/* "0.1.0"; PETREL_ABI_VERSION of the library that is loaded. */
PETREL_API const char *petrel_version(void);
PETREL_API int32_t petrel_abi_version(void);

#ifdef __cplusplus
}
#endif

#endif
