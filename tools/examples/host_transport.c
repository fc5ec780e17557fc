/* The host brings its own WebSocket: here a small client over POSIX sockets, in an app it would be
 * the system's (NSURLSession, OkHttp). Petrel needs nothing but that text frames are carried.
 *
 *     host_transport ws://ADDRESS:PORT/PATH USER OTHER [COUNT]
 *
 * Sends each line of standard input to OTHER and prints what OTHER sends; ends when COUNT messages
 * have come and every message sent has an outcome. Exit status: 0 all were accepted, else 1; 2
 * usage.
 *
 * One thread a connection reads and writes the socket. A connection has two owners, its thread and
 * Petrel: the last one frees it.
 */
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <petrel/petrel.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FRAME_MAX (1024 * 1024)

struct link {
    petrel_connection* connection; /* Ours to report on, until petrel_connection_closed. */
    char host[128], port[8], path[256], subprotocol[64];
    int wake[2]; /* A pipe: something is to be done. */

    pthread_mutex_t mutex; /* Of all below. */
    int owners;
    unsigned char* out; /* Frames that wait for the socket. */
    size_t out_size;
    size_t text_size; /* Bytes of the texts in them. */
    int is_closing;   /* The close frame is in `out`. */
    int is_cut;
};

static void disown(struct link* link) {
    int owners;
    pthread_mutex_lock(&link->mutex);
    owners = --link->owners;
    pthread_mutex_unlock(&link->mutex);
    if (owners > 0) return;
    close(link->wake[0]);
    close(link->wake[1]);
    pthread_mutex_destroy(&link->mutex);
    free(link->out);
    free(link);
}

/* ---- frames (RFC 6455 section 5) ---- */

/* Appends a frame to `out`, masked as every client's; with the mutex held. */
static int put_frame(struct link* link, int opcode, const void* data, size_t size) {
    const unsigned char mask[4] = {0x12, 0x34, 0x56, 0x78}; /* A browser would take random ones. */
    const unsigned char* from = data;
    unsigned char* to = realloc(link->out, link->out_size + size + 14);
    size_t i;

    if (to == NULL) return 0;
    link->out = to;
    to += link->out_size;
    *to++ = (unsigned char)(0x80 | opcode);
    if (size < 126) {
        *to++ = (unsigned char)(0x80 | size);
    } else if (size < 65536) {
        *to++ = 0x80 | 126;
        *to++ = (unsigned char)(size >> 8);
        *to++ = (unsigned char)size;
    } else {
        *to++ = 0x80 | 127;
        for (i = 0; i < 8; i++) *to++ = (unsigned char)((uint64_t)size >> (56 - 8 * i));
    }
    memcpy(to, mask, 4);
    to += 4;
    for (i = 0; i < size; i++) to[i] = from[i] ^ mask[i % 4];
    link->out_size = (size_t)(to + size - link->out);
    return 1;
}

/* What is in `in`: one whole frame is taken out of it and reported. 1: go on; 0: no whole frame
 * yet; -1: the connection ends, with the peer's `code`. `text` collects fragments. */
struct reader {
    unsigned char in[FRAME_MAX];
    size_t size;
    char text[FRAME_MAX];
    size_t text_size;
};

static int take_frame(struct link* link, struct reader* reader, uint16_t* code) {
    const unsigned char* in = reader->in;
    size_t head = 2;
    uint64_t size;
    int opcode, is_final, i;

    if (reader->size < 2) return 0;
    is_final = in[0] & 0x80;
    opcode = in[0] & 0x0f;
    size = in[1] & 0x7f; /* A server's are not masked. */
    if (size == 126) head = 4;
    if (size == 127) head = 10;
    if (reader->size < head) return 0;
    if (head > 2) {
        size = 0;
        for (i = 2; i < (int)head; i++) size = size << 8 | in[i];
    }
    if (size > FRAME_MAX - head) return -1;
    if (reader->size < head + size) return 0;

    if (opcode == 0x8) {
        if (size >= 2) *code = (uint16_t)(in[head] << 8 | in[head + 1]);
        return -1;
    } else if (opcode == 0x9) {
        pthread_mutex_lock(&link->mutex);
        put_frame(link, 0xa, in + head, (size_t)size);
        pthread_mutex_unlock(&link->mutex);
    } else if (opcode == 0x0 || opcode == 0x1) {
        if (size > FRAME_MAX - reader->text_size) return -1;
        memcpy(reader->text + reader->text_size, in + head, (size_t)size);
        reader->text_size += (size_t)size;
        if (is_final) {
            petrel_connection_text(link->connection, reader->text, reader->text_size);
            reader->text_size = 0;
        }
    } else if (opcode == 0x2) {
        petrel_connection_binary(link->connection, (size_t)size);
    }
    reader->size -= head + (size_t)size;
    memmove(reader->in, reader->in + head + size, reader->size);
    return 1;
}

/* ---- the connection's thread ---- */

static int dial(const struct link* link) {
    struct addrinfo hints, *found = NULL, *at;
    int fd = -1;

    memset(&hints, 0, sizeof hints);
    hints.ai_socktype = SOCK_STREAM;
    if (getaddrinfo(link->host, link->port, &hints, &found) != 0) return -1;
    for (at = found; at != NULL && fd < 0; at = at->ai_next) {
        fd = socket(at->ai_family, at->ai_socktype, at->ai_protocol);
        if (fd >= 0 && connect(fd, at->ai_addr, at->ai_addrlen) != 0) {
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(found);
    return fd;
}

/* The upgrade. 0, or the HTTP status of a refusal, or -1. */
static int shake_hands(const struct link* link, int fd, struct reader* reader, char* chosen) {
    char head[1024];
    char *end = NULL, *line;
    int length = snprintf(head, sizeof head,
                          "GET %s HTTP/1.1\r\nHost: %s:%s\r\nUpgrade: websocket\r\n"
                          "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                          "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s%s%s\r\n",
                          link->path, link->host, link->port,
                          *link->subprotocol ? "Sec-WebSocket-Protocol: " : "", link->subprotocol,
                          *link->subprotocol ? "\r\n" : "");
    if (length < 0 || send(fd, head, (size_t)length, MSG_NOSIGNAL) != length) return -1;
    while (end == NULL) {
        const ssize_t got = recv(fd, reader->in + reader->size, 4095 - reader->size, 0);
        if (got <= 0) return -1;
        reader->size += (size_t)got;
        reader->in[reader->size] = '\0';
        end = strstr((char*)reader->in, "\r\n\r\n");
    }
    *chosen = '\0';
    if (strncmp((char*)reader->in, "HTTP/1.1 101", 12) != 0) {
        return atoi((char*)reader->in + 9);
    }
    line = strstr((char*)reader->in, "Sec-WebSocket-Protocol: ");
    if (line != NULL && line < end) sscanf(line + 24, "%63[^\r\n]", chosen);
    reader->size -= (size_t)(end + 4 - (char*)reader->in);
    memmove(reader->in, end + 4, reader->size);
    return 0;
}

/* Writes what the socket takes. 0: broken. */
static int write_out(struct link* link, int fd) {
    ssize_t done;
    size_t texts = 0;

    pthread_mutex_lock(&link->mutex);
    done = send(fd, link->out, link->out_size, MSG_NOSIGNAL);
    if (done > 0) {
        link->out_size -= (size_t)done;
        memmove(link->out, link->out + done, link->out_size);
        if (link->out_size == 0) { /* All frames are away: so are their texts. */
            texts = link->text_size;
            link->text_size = 0;
        }
    }
    pthread_mutex_unlock(&link->mutex);
    if (texts > 0) petrel_connection_sent(link->connection, texts);
    return done > 0 || errno == EAGAIN || errno == EWOULDBLOCK;
}

/* Until the connection ends; the peer's close code, or 1006. */
static uint16_t carry(struct link* link, int fd, struct reader* reader) {
    uint16_t code = 1006;
    int taken = 1;

    fcntl(fd, F_SETFL, O_NONBLOCK);
    for (;;) {
        struct pollfd waiting[2];
        char ignored[64];
        size_t out_size;

        while ((taken = take_frame(link, reader, &code)) > 0) continue;
        if (taken < 0) return code;
        pthread_mutex_lock(&link->mutex);
        out_size = link->out_size;
        if (link->is_cut) taken = -1;
        pthread_mutex_unlock(&link->mutex);
        if (taken < 0) return code;

        waiting[0].fd = fd;
        waiting[0].events = (short)(POLLIN | (out_size > 0 ? POLLOUT : 0));
        waiting[1].fd = link->wake[0];
        waiting[1].events = POLLIN;
        if (poll(waiting, 2, -1) < 0) return code;
        if (waiting[1].revents != 0 && read(link->wake[0], ignored, sizeof ignored) < 0) {
            return code;
        }
        if (waiting[0].revents & POLLOUT && !write_out(link, fd)) return code;
        if (waiting[0].revents & (POLLIN | POLLHUP | POLLERR)) {
            const ssize_t got = recv(fd, reader->in + reader->size, FRAME_MAX - reader->size, 0);
            if (got == 0 || (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK)) return code;
            if (got > 0) reader->size += (size_t)got;
        }
    }
}

static void* run(void* data) {
    struct link* link = data;
    struct reader* reader = calloc(1, sizeof *reader);
    uint16_t code = 1006;
    int http_status = 0;
    const int fd = reader != NULL ? dial(link) : -1;

    if (fd >= 0) {
        char chosen[64];
        const int refusal = shake_hands(link, fd, reader, chosen);
        if (refusal > 0) http_status = refusal;
        if (refusal == 0) {
            petrel_connection_opened(link->connection, chosen);
            code = carry(link, fd, reader);
        }
        close(fd);
    }
    free(reader);
    petrel_connection_closed(link->connection, code, "", http_status, -1);
    disown(link);
    return NULL;
}

/* ---- the table: called by Petrel, on its engine thread ---- */

static void wake(struct link* link) {
    if (write(link->wake[1], "", 1) < 0) return; /* Full: it is awake. */
}

static int32_t host_open(void* user_data, petrel_connection* connection, const char* url,
                         const char* subprotocol, void** connection_data) {
    struct link* link = calloc(1, sizeof *link);
    pthread_t thread;
    (void)user_data;

    if (link == NULL) return PETREL_BAD_CONNECTION;
    strcpy(link->path, "/");
    if (sscanf(url, "ws://%127[^:/]:%7[0-9]%255s", link->host, link->port, link->path) < 2 ||
        pipe(link->wake) != 0) {
        free(link);
        return PETREL_BAD_CONNECTION;
    }
    fcntl(link->wake[0], F_SETFL, O_NONBLOCK);
    fcntl(link->wake[1], F_SETFL, O_NONBLOCK);
    snprintf(link->subprotocol, sizeof link->subprotocol, "%s", subprotocol);
    link->connection = connection;
    link->owners = 2;
    pthread_mutex_init(&link->mutex, NULL);
    if (pthread_create(&thread, NULL, run, link) != 0) {
        link->owners = 1;
        disown(link);
        return PETREL_BAD_CONNECTION;
    }
    pthread_detach(thread);
    *connection_data = link;
    return PETREL_OK;
}

static void host_send(void* user_data, void* connection_data, const char* text, size_t text_size) {
    struct link* link = connection_data;
    (void)user_data;

    pthread_mutex_lock(&link->mutex);
    if (!link->is_closing && put_frame(link, 0x1, text, text_size)) link->text_size += text_size;
    pthread_mutex_unlock(&link->mutex);
    wake(link);
}

static void host_close(void* user_data, void* connection_data, uint16_t code, const char* reason) {
    struct link* link = connection_data;
    (void)user_data;

    pthread_mutex_lock(&link->mutex);
    if (code == 0) {
        link->is_cut = 1;
    } else {
        unsigned char body[125];
        const size_t size = strlen(reason) < 123 ? strlen(reason) : 123;
        body[0] = (unsigned char)(code >> 8);
        body[1] = (unsigned char)code;
        memcpy(body + 2, reason, size);
        put_frame(link, 0x8, body, size + 2); /* The peer answers and closes. */
        link->is_closing = 1;
    }
    pthread_mutex_unlock(&link->mutex);
    wake(link);
}

static void host_release(void* user_data, void* connection_data) {
    struct link* link = connection_data;
    (void)user_data;

    pthread_mutex_lock(&link->mutex);
    if (!link->is_closing) link->is_cut = 1;
    pthread_mutex_unlock(&link->mutex);
    wake(link);
    disown(link);
}

/* ---- the app ---- */

struct talk {
    int open, failed, received, stopped;
};

static int next(petrel_client* client, struct talk* talk) {
    const petrel_event* event = NULL;
    if (petrel_client_next_event(client, &event, -1) != PETREL_OK || event == NULL) return 0;
    if (event->type == PETREL_EVENT_MESSAGE) {
        printf("%s: %s\n", event->as.message->from, event->as.message->text);
        fflush(stdout);
        talk->received++;
    } else if (event->type == PETREL_EVENT_OUTCOME) {
        talk->open--;
        talk->failed += event->as.outcome->outcome != PETREL_OUTCOME_ACCEPTED;
    } else if (event->type == PETREL_EVENT_STATE) {
        talk->stopped = event->as.state->state == PETREL_STATE_STOPPED;
    }
    return !talk->stopped;
}

int main(int argc, char** argv) {
    const petrel_transport transport = {sizeof transport, 0,          NULL,        host_open,
                                        host_send,        host_close, host_release};
    petrel_client_options options;
    petrel_runtime* runtime = NULL;
    petrel_client* client = NULL;
    const petrel_event* last = NULL;
    struct talk talk = {0, 0, 0, 0};
    char line[4096];
    int count;

    if (argc != 4 && argc != 5) {
        fprintf(stderr, "usage: host_transport ws://ADDRESS:PORT/PATH USER OTHER [COUNT]\n");
        return 2;
    }
    count = argc == 5 ? atoi(argv[4]) : 0;
    petrel_client_options_init(&options, sizeof options);
    options.url = argv[1];
    options.user = argv[2];
    options.device = "host";
    options.transport = &transport;
    if (petrel_runtime_create(&runtime) != PETREL_OK ||
        petrel_client_create(runtime, &options, &client) != PETREL_OK) {
        petrel_runtime_destroy(runtime);
        return 1;
    }
    petrel_client_login(client);
    while (fgets(line, sizeof line, stdin) != NULL) {
        if (petrel_client_send(client, argv[3], line, strcspn(line, "\n"), NULL, NULL) == 0) {
            talk.open++;
        } else {
            talk.failed++;
        }
    }
    while (talk.open > 0 || talk.received < count) {
        if (!next(client, &talk)) break;
    }
    petrel_client_next_event(client, &last, 0); /* The last one is handled. */
    petrel_client_destroy(client);
    petrel_runtime_destroy(runtime);
    return talk.open > 0 || talk.failed > 0 || talk.received < count;
}
