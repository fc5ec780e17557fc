// petrel.h in C++ with every warning.
#include "petrel/petrel.h"

#include <cstdio>

static void on_event(void* user_data, petrel_client* client, const petrel_event* event) {
    static_cast<void>(user_data);
    static_cast<void>(client);
    if (event->type == PETREL_EVENT_MESSAGE) {
        std::printf("%s\n", event->as.message->text);
    }
}

int main() {
    char fingerprint[PETREL_FINGERPRINT_SIZE];
    petrel_client_options options;
    petrel_send_options send;
    petrel_stats stats;
    int32_t state = PETREL_STATE_OFFLINE;
    const petrel_event* event = nullptr;

    if (petrel_client_options_init(&options, sizeof options) != PETREL_OK) return 1;
    if (petrel_send_options_init(&send, sizeof send) != PETREL_OK) return 1;
    options.on_event = on_event;
    if (petrel_abi_version() != PETREL_ABI_VERSION) return 1;
    if (petrel_client_send(nullptr, "bob", "hi", 2, &send, fingerprint) != PETREL_BAD_ARGUMENT) {
        return 1;
    }
    if (petrel_client_state(nullptr, &state) != PETREL_BAD_ARGUMENT) return 1;
    if (petrel_client_stats(nullptr, &stats, sizeof stats) != PETREL_BAD_ARGUMENT) return 1;
    if (petrel_client_next_event(nullptr, &event, 0) != PETREL_BAD_ARGUMENT) return 1;
    std::printf("%s: %s\n", petrel_version(), petrel_strerror(PETREL_OK));
    return 0;
}
