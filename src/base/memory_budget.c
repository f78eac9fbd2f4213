#include "base/memory_budget.h"

#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

#define MOST_BYTES (1ull << 30) /* of the default */
#define BLOCK_BYTES (2 << 20)   /* blocks of this size and more go back to the system at once */
#define ASK_NS 200000000ll      /* between two questions whether the waiter is wanted */
#define TRIM_INTERVAL_NS 1000000000ll
#define TRIM_IDLE_NS 5000000000ll
#define EIGHTHS 8

static const struct {
    const char *name, *what;
    int eighths; /* of the budget: what this purpose and the ones before it may fill together */
} purposes[MEMORY_PURPOSES] = {
    [MEMORY_BODIES] = {"bodies", "the request's body", 4},
    [MEMORY_FETCHED] = {"fetched", "the file at the URL", 3},
    [MEMORY_JSON] = {"json", "the request's JSON", 6},
    [MEMORY_TENSORS] = {"tensors", "the request's tensors", 6},
    [MEMORY_REPLIES] = {"replies", "the response", 7},
    [MEMORY_PIXELS] = {"pixels", "decoding the photo", EIGHTHS},
};

static struct {
    pthread_mutex_t mutex; /* guards all of it */
    pthread_cond_t room;
    int waiters;
    size_t bytes; /* the budget; SIZE_MAX: none */
    size_t charged[MEMORY_PURPOSES], total, peak;
    uint64_t refused_never, refused_now;
    size_t released; /* since the heap was trimmed; `peak`: of `total` since then */
    int64_t trimmed_ns;
} budget = {.mutex = PTHREAD_MUTEX_INITIALIZER, .bytes = SIZE_MAX};

/* ---- What there is ---- */

/* The number in a file; UINT64_MAX where there is none ("max"). */
static uint64_t read_number(const char *path) {
    unsigned long long number = UINT64_MAX;
    FILE *file = fopen(path, "re");
    if (file && fscanf(file, "%llu", &number) != 1)
        number = UINT64_MAX;
    if (file)
        fclose(file);
    return number;
}

/* The least limit of a group and of those around it, up to `mount`. */
static uint64_t read_group_limit(const char *mount, const char *group, const char *name) {
    uint64_t least = UINT64_MAX;
    char path[4096], folder[2048];
    snprintf(folder, sizeof folder, "%s", group);

    for (;;) {
        int length = snprintf(path, sizeof path, "%s%s/%s", mount, folder, name);
        uint64_t limit = length < (int)sizeof path ? read_number(path) : UINT64_MAX;
        least = limit < least ? limit : least;
        char *slash = strrchr(folder, '/');
        if (!slash)
            return least;
        *slash = 0;
    }
}

/* Lines of /proc/self/cgroup: "0::/GROUP" (version 2), "7:cpu,memory:/GROUP" (version 1). */
static uint64_t read_limit(const char *root) {
    uint64_t least = UINT64_MAX;
    char path[4096], mount[2048], line[2048];
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *file = fopen(path, "re");

    while (file && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        char *controllers = strchr(line, ':');
        char *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group)
            continue;
        *group++ = 0;

        bool second = !controllers[1];
        if (!second && !strstr(controllers, "memory"))
            continue;
        snprintf(mount, sizeof mount, "%s/sys/fs/cgroup%s", root, second ? "" : "/memory");
        uint64_t limit = read_group_limit(mount, group, second ? "memory.max" : "memory.limit_in_bytes");
        least = limit < least ? limit : least;
    }

    if (file)
        fclose(file);
    return least;
}

uint64_t memory_limit(const char *root) {
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    uint64_t there = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : UINT64_MAX;
    uint64_t limit = read_limit(root);
    return limit < there ? limit : there;
}

size_t memory_budget_default(const char *root) {
    uint64_t half = memory_limit(root) / 2;
    return (size_t)(half < MOST_BYTES ? half : MOST_BYTES);
}

void memory_budget_start(size_t bytes) {
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&budget.room, &monotonic);
    pthread_condattr_destroy(&monotonic);

    pthread_mutex_lock(&budget.mutex);
    budget.bytes = bytes ? bytes : memory_budget_default("");
    pthread_mutex_unlock(&budget.mutex);

    /* Else glibc keeps, from the first large body on, every block of that size in its heaps. */
    mallopt(M_MMAP_THRESHOLD, BLOCK_BYTES);
    mallopt(M_TRIM_THRESHOLD, BLOCK_BYTES);
}

size_t memory_budget_bytes(void) {
    pthread_mutex_lock(&budget.mutex);
    size_t bytes = budget.bytes;
    pthread_mutex_unlock(&budget.mutex);
    return bytes;
}

/* ---- Charges; the mutex is held ---- */

/* What a purpose and those before it may fill. */
static size_t share_of(enum memory_purpose purpose) {
    return budget.bytes / EIGHTHS * (size_t)purposes[purpose].eighths;
}

static bool has_room(enum memory_purpose purpose, size_t bytes) {
    size_t before = 0;
    if (budget.bytes == SIZE_MAX)
        return true;

    for (int i = 0; i < MEMORY_PURPOSES; i++)
        if (purposes[i].eighths <= purposes[purpose].eighths)
            before += budget.charged[i];

    size_t share = share_of(purpose);
    return bytes <= share && before <= share - bytes && bytes <= budget.bytes &&
           budget.total <= budget.bytes - bytes;
}

static bool can_ever_fit(enum memory_purpose purpose, size_t bytes) {
    return budget.bytes == SIZE_MAX || bytes <= share_of(purpose);
}

static void add(struct memory_charge *charge, size_t bytes) {
    charge->bytes += bytes;
    budget.charged[charge->purpose] += bytes;
    budget.total += bytes;
    if (budget.total > budget.peak)
        budget.peak = budget.total;
}

static void subtract(struct memory_charge *charge, size_t bytes) {
    charge->bytes -= bytes;
    budget.charged[charge->purpose] -= bytes;
    budget.total -= bytes;
    budget.released += bytes;
    if (bytes && budget.waiters)
        pthread_cond_broadcast(&budget.room);
}

/* Any bytes: a size of 0.1 MB says enough. */
static double megabytes(size_t bytes) {
    return (double)bytes / 1048576;
}

static bool refuse(enum memory_purpose purpose, size_t bytes, struct error *error) {
    const char *what = purposes[purpose].what;
    if (can_ever_fit(purpose, bytes)) {
        budget.refused_now++;
        return error_set(error, ERROR_UNAVAILABLE,
                         "there is no room for %s (%.1f MB) just now: try again soon", what,
                         megabytes(bytes));
    }

    budget.refused_never++;
    return error_set(error, ERROR_TOO_LARGE,
                     "%s takes %.1f MB of memory, and this process has %.1f MB for it (--memory-budget)",
                     what, megabytes(bytes), megabytes(share_of(purpose)));
}

/* ---- Charges ---- */

bool memory_charge_try(struct memory_charge *charge, size_t bytes) {
    pthread_mutex_lock(&budget.mutex);
    bool room = has_room(charge->purpose, bytes);
    if (room)
        add(charge, bytes);
    pthread_mutex_unlock(&budget.mutex);
    return room;
}

/* Lock held. Charge what fits now; else false, with the reason. */
static bool add_or_refuse(struct memory_charge *charge, size_t bytes, struct error *error) {
    if (!has_room(charge->purpose, bytes)) {
        refuse(charge->purpose, bytes, error);
        return false;
    }
    add(charge, bytes);
    return true;
}

bool memory_charge_grow(struct memory_charge *charge, size_t bytes, struct error *error) {
    pthread_mutex_lock(&budget.mutex);
    bool room = add_or_refuse(charge, bytes, error);
    pthread_mutex_unlock(&budget.mutex);
    return room;
}

static void wait_a_moment(int64_t until_ns) {
    int64_t now = clock_ns(), at = now + ASK_NS < until_ns ? now + ASK_NS : until_ns;
    struct timespec until = {at / 1000000000, at % 1000000000};
    budget.waiters++;
    pthread_cond_timedwait(&budget.room, &budget.mutex, &until);
    budget.waiters--;
}

static bool is_wanted(const struct memory_wait *wait) {
    pthread_mutex_unlock(&budget.mutex); /* it may take locks of its own */
    bool wanted = !wait->is_wanted || wait->is_wanted(wait->context);
    pthread_mutex_lock(&budget.mutex);
    return wanted;
}

bool memory_charge_wait(struct memory_charge *charge, size_t bytes, const struct memory_wait *wait,
                        struct error *error) {
    int64_t until = wait->deadline_ns;
    pthread_mutex_lock(&budget.mutex);
    while (!has_room(charge->purpose, bytes) && can_ever_fit(charge->purpose, bytes) && clock_ns() < until &&
           is_wanted(wait))
        if (!has_room(charge->purpose, bytes))
            wait_a_moment(until);

    bool room = add_or_refuse(charge, bytes, error);
    pthread_mutex_unlock(&budget.mutex);
    return room;
}

void memory_charge_set(struct memory_charge *charge, size_t bytes) {
    if (bytes == charge->bytes)
        return;
    pthread_mutex_lock(&budget.mutex);
    if (bytes > charge->bytes)
        add(charge, bytes - charge->bytes);
    else
        subtract(charge, charge->bytes - bytes);
    pthread_mutex_unlock(&budget.mutex);
}

void memory_charge_release(struct memory_charge *charge) {
    memory_charge_set(charge, 0);
}

bool memory_budget_check(enum memory_purpose purpose, size_t bytes, struct error *error) {
    pthread_mutex_lock(&budget.mutex);
    bool room = has_room(purpose, bytes);
    if (!room)
        refuse(purpose, bytes, error);
    pthread_mutex_unlock(&budget.mutex);
    return room;
}

bool memory_budget_allows(enum memory_purpose purpose, size_t bytes) {
    pthread_mutex_lock(&budget.mutex);
    bool allowed = can_ever_fit(purpose, bytes);
    pthread_mutex_unlock(&budget.mutex);
    return allowed;
}

bool memory_budget_trim(void) {
    int64_t now = clock_ns();
    pthread_mutex_lock(&budget.mutex);
    bool much = budget.bytes != SIZE_MAX && budget.peak >= budget.bytes / 4;
    bool due = much || (budget.total == 0 && budget.released >= budget.bytes / EIGHTHS);
    bool soon = now - budget.trimmed_ns < (much ? TRIM_INTERVAL_NS : TRIM_IDLE_NS);
    if (due && !soon) {
        budget.trimmed_ns = now;
        budget.peak = budget.total;
        budget.released = 0;
    }
    pthread_mutex_unlock(&budget.mutex);

    if (due && !soon)
        malloc_trim(0);
    return due;
}

/* ---- For metrics ---- */

const char *memory_purpose_name(enum memory_purpose purpose) {
    return purposes[purpose].name;
}

size_t memory_budget_charged(enum memory_purpose purpose) {
    pthread_mutex_lock(&budget.mutex);
    size_t bytes = budget.charged[purpose];
    pthread_mutex_unlock(&budget.mutex);
    return bytes;
}

void memory_budget_refused(uint64_t *ret_never, uint64_t *ret_now) {
    pthread_mutex_lock(&budget.mutex);
    *ret_never = budget.refused_never;
    *ret_now = budget.refused_now;
    pthread_mutex_unlock(&budget.mutex);
}
