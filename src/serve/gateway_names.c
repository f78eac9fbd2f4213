#include "serve/gateway_names.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "http/names.h"

#define LOOKING_MOST 64 /* look-ups at once */

struct name {
    char host[BACKEND_HOST_BYTES];
    char addresses[REPLICAS_MOST][NAME_ADDRESS_BYTES];
    int count;
    bool known, tried, looking;
    int64_t ended_ns; /* of the last look-up */
    bool marked;      /* used by name_book_set alone */
    struct name *next;
};

struct name_book {
    pthread_mutex_t lock;
    pthread_cond_t ended; /* a look-up */
    struct name *first;
    int looking;
    bool changed;
    int references; /* the owner's, and one for every look-up */
};

/* One look-up's hold on the book. */
struct looking {
    struct name_book *book;
    char host[BACKEND_HOST_BYTES];
};

struct name_book *name_book_create(void) {
    struct name_book *book = calloc(1, sizeof *book);
    pthread_condattr_t attributes;
    if (!book)
        return NULL;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&book->lock, NULL);
    pthread_cond_init(&book->ended, &attributes);
    pthread_condattr_destroy(&attributes);
    book->references = 1;
    return book;
}

/* With the lock, which it gives back. */
static void book_release(struct name_book *book) {
    bool last = --book->references == 0;
    pthread_mutex_unlock(&book->lock);
    if (!last)
        return;
    for (struct name *name = book->first, *next; name; name = next) {
        next = name->next;
        free(name);
    }
    pthread_cond_destroy(&book->ended);
    pthread_mutex_destroy(&book->lock);
    free(book);
}

void name_book_free(struct name_book *book) {
    if (!book)
        return;
    pthread_mutex_lock(&book->lock);
    book_release(book);
}

/* Under the lock. */
static struct name *name_find(const struct name_book *book, const char *host) {
    struct name *name = book->first;
    while (name && strcmp(name->host, host) != 0)
        name = name->next;
    return name;
}

static struct name *name_add(struct name_book *book, const char *host) {
    struct name *name = calloc(1, sizeof *name);
    if (!name)
        return NULL;
    snprintf(name->host, sizeof name->host, "%s", host);
    name->next = book->first;
    return book->first = name;
}

bool name_book_set(struct name_book *book, const struct backend_list *list) {
    bool good = true;
    pthread_mutex_lock(&book->lock);
    for (struct name *name = book->first; name; name = name->next)
        name->marked = false;
    for (size_t i = 0; i < list->count; i++) {
        struct name *name = name_find(book, list->entries[i].url.host);
        name = name ? name : name_add(book, list->entries[i].url.host);
        good &= name != NULL;
        if (name)
            name->marked = true;
    }
    for (struct name **at = &book->first; *at;) {
        struct name *name = *at;
        if (name->marked) {
            at = &name->next;
            continue;
        }
        *at = name->next;
        free(name);
    }
    pthread_mutex_unlock(&book->lock);
    return good;
}

/* What was found takes the place of what was known; a failure leaves it. */
static void addresses_take(struct name_book *book, struct name *name, const struct addrinfo *found) {
    char addresses[REPLICAS_MOST][NAME_ADDRESS_BYTES] = {0};
    int count = 0;
    for (; found && count < REPLICAS_MOST; found = found->ai_next)
        count += getnameinfo(found->ai_addr, found->ai_addrlen, addresses[count], NAME_ADDRESS_BYTES, NULL, 0,
                             NI_NUMERICHOST) == 0;
    if (count == 0 || (name->count == count && memcmp(name->addresses, addresses, sizeof addresses) == 0))
        return;
    memcpy(name->addresses, addresses, sizeof addresses);
    name->count = count;
    name->known = book->changed = true;
}

static void name_found(void *context, const struct addrinfo *found, const char *failure) {
    struct looking *looking = context;
    struct name_book *book = looking->book;
    pthread_mutex_lock(&book->lock);
    struct name *name = name_find(book, looking->host);
    if (name && name->looking) {
        if (!found && !name->tried)
            fprintf(stderr, "guichet gateway: the name \"%s\" is not known: %s\n", name->host, failure);
        addresses_take(book, name, found);
        name->looking = false;
        name->tried = true;
        name->ended_ns = clock_ns();
    }
    book->looking--;
    pthread_cond_broadcast(&book->ended);
    free(looking);
    book_release(book);
}

/* Begin one look-up that is due; false where there is none, or too many are under way. */
static bool look_up_next(struct name_book *book, int64_t now_ns, int again_ms) {
    struct looking *looking = NULL;
    pthread_mutex_lock(&book->lock);
    struct name *name = book->looking < LOOKING_MOST ? book->first : NULL;
    while (name && (name->looking || (name->tried && now_ns - name->ended_ns < again_ms * 1000000ll)))
        name = name->next;
    if (name && (looking = malloc(sizeof *looking))) {
        looking->book = book;
        strcpy(looking->host, name->host);
        name->looking = true;
        book->looking++;
        book->references++;
    }
    pthread_mutex_unlock(&book->lock);
    if (looking && !name_look_up(looking->host, name_found, looking))
        name_found(looking, NULL, "no thread to look it up");
    return looking != NULL;
}

void name_book_step(struct name_book *book, int64_t now_ns, int again_ms) {
    while (look_up_next(book, now_ns, again_ms))
        ;
}

void name_book_wait(struct name_book *book, int milliseconds) {
    int64_t until = clock_ns() + milliseconds * 1000000ll;
    struct timespec deadline = {until / 1000000000, until % 1000000000};
    pthread_mutex_lock(&book->lock);
    for (bool waits = true; waits;) {
        waits = false;
        for (const struct name *name = book->first; name; name = name->next)
            waits |= !name->tried;
        waits = waits && pthread_cond_timedwait(&book->ended, &book->lock, &deadline) != ETIMEDOUT;
    }
    pthread_mutex_unlock(&book->lock);
}

bool name_book_changed(struct name_book *book) {
    pthread_mutex_lock(&book->lock);
    bool changed = book->changed;
    book->changed = false;
    pthread_mutex_unlock(&book->lock);
    return changed;
}

int name_book_find(struct name_book *book, const char *host, char ret[REPLICAS_MOST][NAME_ADDRESS_BYTES]) {
    pthread_mutex_lock(&book->lock);
    const struct name *name = name_find(book, host);
    int count = name && name->known ? name->count : -1;
    if (count > 0)
        memcpy(ret, name->addresses, sizeof name->addresses);
    pthread_mutex_unlock(&book->lock);
    return count;
}
