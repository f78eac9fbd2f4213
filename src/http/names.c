#include "http/names.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define STACK_BYTES (512u << 10)

struct look_up {
    void (*done)(void *context, const struct addrinfo *found, const char *failure);
    void *context;
    char host[];
};

static bool look(const char *host, int flags,
                 void (*done)(void *context, const struct addrinfo *found, const char *failure),
                 void *context) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = flags}, *found = NULL;
    int failure = getaddrinfo(host, NULL, &hints, &found);
    if (failure && flags)
        return false;

    done(context, failure ? NULL : found, failure ? gai_strerror(failure) : "");
    if (!failure)
        freeaddrinfo(found);
    return true;
}

static void *run_look_up(void *context) {
    struct look_up *look_up = context;
    look(look_up->host, 0, look_up->done, look_up->context);
    free(look_up);
    return NULL;
}

bool name_look_up(const char *host,
                  void (*done)(void *context, const struct addrinfo *found, const char *failure),
                  void *context) {
    if (look(host, AI_NUMERICHOST, done, context))
        return true;

    size_t size = strlen(host) + 1;
    struct look_up *look_up = malloc(sizeof *look_up + size);
    if (!look_up)
        return false;

    look_up->done = done;
    look_up->context = context;
    memcpy(look_up->host, host, size);

    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    bool started = pthread_create(&thread, &attributes, run_look_up, look_up) == 0;
    pthread_attr_destroy(&attributes);

    if (!started)
        free(look_up);
    return started;
}
