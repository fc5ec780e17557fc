/* What every consumer builds: enough to need all of libpetrel. */
#include <petrel/petrel.h>
#include <stdio.h>
#include <string.h>

int main(void) {
    petrel_client_options options;
    petrel_runtime* runtime = NULL;
    petrel_client* client = NULL;
    char fingerprint[PETREL_FINGERPRINT_SIZE];
    petrel_stats stats;

    if (petrel_abi_version() != PETREL_ABI_VERSION) return 1;
    if (petrel_client_options_init(&options, sizeof options) != PETREL_OK) return 1;
    options.url = "ws://127.0.0.1:1/ws"; /* Nobody is there: it keeps trying. */
    options.user = "consumer";
    if (petrel_runtime_create(&runtime) != PETREL_OK) return 1;
    if (petrel_client_create(runtime, &options, &client) != PETREL_OK) return 1;
    if (petrel_client_login(client) != PETREL_OK) return 1;
    if (petrel_client_send(client, "bob", "hi", 2, NULL, fingerprint) != PETREL_OK) return 1;
    if (petrel_client_stats(client, &stats, sizeof stats) != PETREL_OK) return 1;
    petrel_client_destroy(client);
    petrel_runtime_destroy(runtime);
    if (stats.kept != 1 || strlen(fingerprint) != 36) return 1;
    printf("petrel %s works\n", petrel_version());
    return 0;
}
