/* petrel.h in C99 with every warning: all constants, all functions, in types of one's own. */
#include "petrel/petrel.h"

#include <stdio.h>

static void on_event(void* user_data, petrel_client* client, const petrel_event* event) {
    (void)user_data;
    (void)client;
    if (event->type == PETREL_EVENT_MESSAGE) {
        printf("%s\n", event->as.message->text);
    }
}

int main(void) {
    char fingerprint[PETREL_FINGERPRINT_SIZE];
    petrel_client_options options;
    petrel_send_options send;
    petrel_stats stats;
    int32_t state = PETREL_STATE_OFFLINE;
    const petrel_event* event = NULL;

    if (petrel_client_options_init(&options, sizeof options) != PETREL_OK) return 1;
    if (petrel_send_options_init(&send, sizeof send) != PETREL_OK) return 1;
    options.on_event = on_event;
    if (petrel_abi_version() != PETREL_ABI_VERSION) return 1;
    if (petrel_client_send(NULL, "bob", "hi", 2, &send, fingerprint) != PETREL_BAD_ARGUMENT) {
        return 1;
    }
    if (petrel_client_state(NULL, &state) != PETREL_BAD_ARGUMENT) return 1;
    if (petrel_client_stats(NULL, &stats, sizeof stats) != PETREL_BAD_ARGUMENT) return 1;
    if (petrel_client_next_event(NULL, &event, 0) != PETREL_BAD_ARGUMENT) return 1;
    printf("%s: %s\n", petrel_version(), petrel_strerror(PETREL_OK));
    return 0;
}
