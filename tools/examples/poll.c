/* Events pulled in an event loop of one's own: poll(2) on standard input and on the client.
 *
 *     poll URL USER OTHER [COUNT]
 *
 * Sends each line of standard input to OTHER and prints what OTHER sends; ends when COUNT messages
 * have come (default: at the end of the input) and every message sent has an outcome. No threads,
 * no locks. Exit status: 0 all were accepted, 1 not all, 2 usage, 4 refused or kicked out.
 */
#define _POSIX_C_SOURCE 200809L

#include <petrel/petrel.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct talk {
    int open; /* Sent, without an outcome. */
    int failed;
    int received;
    int stopped;
};

static void handle(struct talk* talk, const petrel_event* event) {
    switch (event->type) {
        case PETREL_EVENT_MESSAGE:
            printf("%s: %s\n", event->as.message->from, event->as.message->text);
            fflush(stdout);
            talk->received++;
            break;
        case PETREL_EVENT_OUTCOME:
            talk->open--;
            if (event->as.outcome->outcome != PETREL_OUTCOME_ACCEPTED) talk->failed++;
            break;
        case PETREL_EVENT_STATE:
            talk->stopped = event->as.state->state == PETREL_STATE_STOPPED;
            break;
        default: break;
    }
}

/* Everything that waits. What was given before counts as handled with the next call, so the last
 * one of a batch is handled when there is none any more. */
static int drain(petrel_client* client, struct talk* talk) {
    const petrel_event* event = NULL;
    int32_t code;

    while ((code = petrel_client_next_event(client, &event, 0)) == PETREL_OK && event != NULL) {
        handle(talk, event);
    }
    return code == PETREL_OK;
}

static void say(petrel_client* client, const char* to, const char* text, size_t size,
                struct talk* talk) {
    const int32_t code = petrel_client_send(client, to, text, size, NULL, NULL);
    if (code == PETREL_OK) {
        talk->open++;
    } else {
        talk->failed++;
        fprintf(stderr, "not sent: %s\n", petrel_strerror(code));
    }
}

/* Sends the whole lines in `buffer`; how much is left. */
static size_t say_lines(petrel_client* client, const char* to, char* buffer, size_t size,
                        struct talk* talk) {
    char* start = buffer;
    char* end;

    while ((end = memchr(start, '\n', size)) != NULL) {
        const size_t length = (size_t)(end - start);
        say(client, to, start, length, talk);
        size -= length + 1;
        start = end + 1;
    }
    memmove(buffer, start, size);
    return size;
}

static int loop(petrel_client* client, const char* other, int count) {
    struct talk talk = {0, 0, 0, 0};
    char buffer[4096];
    size_t size = 0;
    int has_input = 1;

    while (!talk.stopped && (has_input || talk.open > 0 || talk.received < count)) {
        struct pollfd waiting[2];
        waiting[0].fd = petrel_client_event_fd(client);
        waiting[0].events = POLLIN;
        waiting[1].fd = has_input ? STDIN_FILENO : -1; /* poll ignores -1. */
        waiting[1].events = POLLIN;
        waiting[1].revents = 0;
        if (poll(waiting, 2, -1) < 0) return 1;

        if (!drain(client, &talk)) return 1;
        if (waiting[1].revents != 0) {
            const ssize_t got = read(STDIN_FILENO, buffer + size, sizeof buffer - size);
            if (got <= 0) {
                has_input = 0;
                if (size > 0) say(client, other, buffer, size, &talk);
            } else {
                size = say_lines(client, other, buffer, size + (size_t)got, &talk);
                if (size == sizeof buffer) { /* A longer line: in pieces. */
                    say(client, other, buffer, size, &talk);
                    size = 0;
                }
            }
        }
    }
    return talk.stopped ? 4 : talk.failed > 0;
}

int main(int argc, char** argv) {
    petrel_client_options options;
    petrel_runtime* runtime = NULL;
    petrel_client* client = NULL;
    int32_t code;
    int status = 1;

    if (argc != 4 && argc != 5) {
        fprintf(stderr, "usage: poll URL USER OTHER [COUNT]\n");
        return 2;
    }
    petrel_client_options_init(&options, sizeof options);
    options.url = argv[1];
    options.user = argv[2];
    options.device = "poll"; /* No on_event: events wait to be pulled. */

    code = petrel_runtime_create(&runtime);
    if (code == PETREL_OK) code = petrel_client_create(runtime, &options, &client);
    if (code == PETREL_OK) code = petrel_client_login(client);
    if (code == PETREL_OK) {
        status = loop(client, argv[3], argc == 5 ? atoi(argv[4]) : 0);
    } else {
        fprintf(stderr, "%s\n", petrel_strerror(code));
    }
    petrel_client_destroy(client);
    petrel_runtime_destroy(runtime);
    return status;
}
