#include "base/log.h"
#include "server/gateway/resolver.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/text.h"
#include "http/names.h"

#define LOOKING_MOST 64 /* look-ups at once */

struct name {
    char host[URL_HOST_BYTES];
    char addresses[LIMIT_REPLICAS][NAME_ADDRESS_BYTES];
    int count;
    bool known, tried, looking;
    int64_t ended_ns; /* of the last look-up */
    bool marked;      /* used by resolver_set alone */
    struct name *next;
};

struct resolver {
    pthread_mutex_t lock;
    pthread_cond_t ended; /* a look-up */
    struct name *first;
    int looking;
    bool changed;
    int references; /* the owner's, and one per look-up */
};

/* A look-up under way; it holds a reference to the resolver. */
struct looking {
    struct resolver *resolver;
    char host[URL_HOST_BYTES];
};

struct resolver *resolver_create(void) {
    struct resolver *resolver = calloc(1, sizeof *resolver);
    pthread_condattr_t attributes;
    if (!resolver)
        return NULL;

    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&resolver->lock, NULL);
    pthread_cond_init(&resolver->ended, &attributes);
    pthread_condattr_destroy(&attributes);
    resolver->references = 1;

    return resolver;
}

/* Lock held on entry; released on return. */
static void reference_release(struct resolver *resolver) {
    bool last = --resolver->references == 0;
    pthread_mutex_unlock(&resolver->lock);
    if (!last)
        return;

    for (struct name *name = resolver->first, *next; name; name = next) {
        next = name->next;
        free(name);
    }

    pthread_cond_destroy(&resolver->ended);
    pthread_mutex_destroy(&resolver->lock);
    free(resolver);
}

void resolver_free(struct resolver *resolver) {
    if (!resolver)
        return;
    pthread_mutex_lock(&resolver->lock);
    reference_release(resolver);
}

/* Lock held. */
static struct name *name_find(const struct resolver *resolver, const char *host) {
    struct name *name = resolver->first;
    while (name && strcmp(name->host, host) != 0)
        name = name->next;
    return name;
}

static struct name *name_add(struct resolver *resolver, const char *host) {
    struct name *name = calloc(1, sizeof *name);
    if (!name)
        return NULL;
    text_copy(name->host, sizeof name->host, host);
    name->next = resolver->first;
    return resolver->first = name;
}

bool resolver_set(struct resolver *resolver, const struct backend_list *list) {
    bool good = true;

    pthread_mutex_lock(&resolver->lock);
    for (struct name *name = resolver->first; name; name = name->next)
        name->marked = false;

    for (size_t i = 0; i < list->count; i++) {
        struct name *name = name_find(resolver, list->entries[i].url.host);
        name = name ? name : name_add(resolver, list->entries[i].url.host);
        good &= name != NULL;
        if (name)
            name->marked = true;
    }

    for (struct name **at = &resolver->first; *at;) {
        struct name *name = *at;
        if (name->marked) {
            at = &name->next;
            continue;
        }
        *at = name->next;
        free(name);
    }

    pthread_mutex_unlock(&resolver->lock);
    return good;
}

/* Replace the known addresses; a failed look-up keeps them. */
static void addresses_take(struct resolver *resolver, struct name *name, const struct addrinfo *found) {
    char addresses[LIMIT_REPLICAS][NAME_ADDRESS_BYTES] = {0};
    int count = 0;

    for (; found && count < LIMIT_REPLICAS; found = found->ai_next)
        count += getnameinfo(found->ai_addr, found->ai_addrlen, addresses[count], NAME_ADDRESS_BYTES, NULL, 0,
                             NI_NUMERICHOST) == 0;
    if (count == 0 || (name->count == count && memcmp(name->addresses, addresses, sizeof addresses) == 0))
        return;

    memcpy(name->addresses, addresses, sizeof addresses);
    name->count = count;
    name->known = resolver->changed = true;
}

static void name_found(void *context, const struct addrinfo *found, const char *failure) {
    struct looking *looking = context;
    struct resolver *resolver = looking->resolver;

    pthread_mutex_lock(&resolver->lock);
    struct name *name = name_find(resolver, looking->host);
    if (name && name->looking) {
        if (!found && !name->tried)
            log_line("guichet gateway: cannot resolve \"%s\": %s", name->host, failure);
        addresses_take(resolver, name, found);
        name->looking = false;
        name->tried = true;
        name->ended_ns = clock_ns();
    }

    resolver->looking--;
    pthread_cond_broadcast(&resolver->ended);
    free(looking);
    reference_release(resolver);
}

/* Start one look-up that is due. False if none is due or too many are under way. */
static bool look_up_next(struct resolver *resolver, int64_t now_ns, int again_ms) {
    struct looking *looking = NULL;

    pthread_mutex_lock(&resolver->lock);
    struct name *name = resolver->looking < LOOKING_MOST ? resolver->first : NULL;
    while (name && (name->looking || (name->tried && now_ns - name->ended_ns < again_ms * 1000000ll)))
        name = name->next;

    if (name && (looking = malloc(sizeof *looking))) {
        looking->resolver = resolver;
        strcpy(looking->host, name->host);
        name->looking = true;
        resolver->looking++;
        resolver->references++;
    }

    pthread_mutex_unlock(&resolver->lock);
    if (looking && !name_look_up(looking->host, name_found, looking))
        name_found(looking, NULL, "no thread for the look-up");
    return looking != NULL;
}

void resolver_step(struct resolver *resolver, int64_t now_ns, int again_ms) {
    while (look_up_next(resolver, now_ns, again_ms))
        ;
}

void resolver_wait(struct resolver *resolver, int milliseconds) {
    int64_t until = clock_ns() + milliseconds * 1000000ll;
    struct timespec deadline = {until / 1000000000, until % 1000000000};
    pthread_mutex_lock(&resolver->lock);

    for (bool waits = true; waits;) {
        waits = false;
        for (const struct name *name = resolver->first; name; name = name->next)
            waits |= !name->tried;
        waits = waits && pthread_cond_timedwait(&resolver->ended, &resolver->lock, &deadline) != ETIMEDOUT;
    }
    pthread_mutex_unlock(&resolver->lock);
}

bool resolver_changed(struct resolver *resolver) {
    pthread_mutex_lock(&resolver->lock);
    bool changed = resolver->changed;
    resolver->changed = false;
    pthread_mutex_unlock(&resolver->lock);
    return changed;
}

int resolver_find(struct resolver *resolver, const char *host, char ret[LIMIT_REPLICAS][NAME_ADDRESS_BYTES]) {
    pthread_mutex_lock(&resolver->lock);
    const struct name *name = name_find(resolver, host);
    int count = name && name->known ? name->count : -1;
    if (count > 0)
        memcpy(ret, name->addresses, sizeof name->addresses);
    pthread_mutex_unlock(&resolver->lock);

    return count;
}
