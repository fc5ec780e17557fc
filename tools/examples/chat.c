/* A chat in a terminal, with events pushed to a callback.
 *
 *     chat URL USER OTHER          sends each line of standard input to OTHER
 *
 * Messages of OTHER are printed as they come. At the end of the input it waits until every message
 * has an outcome. Exit status: 0 all were accepted, 1 not all, 2 usage, 4 refused or kicked out.
 */
#include <petrel/petrel.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

/* Shared with the engine thread, which calls on_event. */
struct chat {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int open;    /* Messages without an outcome. */
    int failed;  /* Messages that were not accepted. */
    int stopped; /* Code of a refusal or kick-out. */
};

static void on_event(void* user_data, petrel_client* client, const petrel_event* event) {
    struct chat* chat = user_data;
    (void)client;

    switch (event->type) {
        case PETREL_EVENT_MESSAGE:
            printf("%s: %s\n", event->as.message->from, event->as.message->text);
            fflush(stdout);
            break;
        case PETREL_EVENT_OUTCOME: /* Exactly one for each message that was sent. */
            pthread_mutex_lock(&chat->mutex);
            chat->open--;
            if (event->as.outcome->outcome != PETREL_OUTCOME_ACCEPTED) chat->failed++;
            pthread_cond_signal(&chat->changed);
            pthread_mutex_unlock(&chat->mutex);
            break;
        case PETREL_EVENT_STATE:
            fprintf(stderr, "state %d\n", (int)event->as.state->state);
            if (event->as.state->state == PETREL_STATE_STOPPED) {
                fprintf(stderr, "%s\n", petrel_strerror(event->as.state->code));
                pthread_mutex_lock(&chat->mutex);
                chat->stopped = 1;
                pthread_cond_signal(&chat->changed);
                pthread_mutex_unlock(&chat->mutex);
            }
            break;
        default: /* Events of later versions too. */ break;
    }
}

static int talk(petrel_client* client, const char* other, struct chat* chat) {
    char line[4096];
    int status;

    while (fgets(line, sizeof line, stdin) != NULL) {
        int32_t code;
        line[strcspn(line, "\n")] = '\0';

        pthread_mutex_lock(&chat->mutex);
        chat->open++; /* Before sending: the outcome may be quicker than we are. */
        pthread_mutex_unlock(&chat->mutex);
        code = petrel_client_send(client, other, line, strlen(line), NULL, NULL);
        if (code != PETREL_OK) {
            fprintf(stderr, "not sent: %s\n", petrel_strerror(code));
            pthread_mutex_lock(&chat->mutex);
            chat->open--;
            chat->failed++;
            pthread_mutex_unlock(&chat->mutex);
        }
    }
    pthread_mutex_lock(&chat->mutex);
    while (chat->open > 0 && !chat->stopped) pthread_cond_wait(&chat->changed, &chat->mutex);
    status = chat->stopped ? 4 : chat->failed > 0;
    pthread_mutex_unlock(&chat->mutex);
    return status;
}

int main(int argc, char** argv) {
    struct chat chat;
    petrel_client_options options;
    petrel_runtime* runtime = NULL;
    petrel_client* client = NULL;
    int32_t code;
    int status = 1;

    if (argc != 4) {
        fprintf(stderr, "usage: chat URL USER OTHER\n");
        return 2;
    }
    memset(&chat, 0, sizeof chat);
    pthread_mutex_init(&chat.mutex, NULL);
    pthread_cond_init(&chat.changed, NULL);

    petrel_client_options_init(&options, sizeof options);
    options.url = argv[1];
    options.user = argv[2];
    options.device = "chat";
    options.on_event = on_event;
    options.user_data = &chat;

    code = petrel_runtime_create(&runtime);
    if (code == PETREL_OK) code = petrel_client_create(runtime, &options, &client);
    if (code == PETREL_OK) code = petrel_client_login(client);
    if (code == PETREL_OK) {
        status = talk(client, argv[3], &chat);
    } else {
        fprintf(stderr, "%s\n", petrel_strerror(code));
    }
    petrel_client_destroy(client); /* No callback runs any more. */
    petrel_runtime_destroy(runtime);
    pthread_cond_destroy(&chat.changed);
    pthread_mutex_destroy(&chat.mutex);
    return status;
}
