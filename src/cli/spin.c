/* How long OpenMP's threads spin before they sleep.
 *
 * A network is some hundred short steps, and its threads meet at the end of each. One that sleeps takes 20 to
 * 60 µs to wake, longer than most steps; one that spins keeps a processor from threads that have work.
 * libgomp spins for a number of `pause`s, by default 300,000, which are 3 to 14 ms: too long for a machine
 * with other work. A pause takes 11 ns on one processor and 60 on another, so it is measured here.
 *
 * libgomp reads its variables before main, so this runs before any library starts, and calls none. The C
 * library takes the array of variables as it finds it, which has no room for one more: ours takes the place
 * of another until libgomp has read it. Who sets GOMP_SPINCOUNT or OMP_WAIT_POLICY chooses.
 *
 * Where others want the processors, even that is too long: what spins holds up what it waits for. libgomp
 * spins a hundred pauses only where it has more threads than there are processors, so a thread of ours looks
 * how often this process is interrupted, and while that is often, holds a team of OpenMP threads that sleep.
 */
#include "cli/spin.h"

#include <omp.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#if defined(__x86_64__)

#define SPIN_NS 35000 /* docs/benchmarks.md has what other times give */
#define PAUSES 256    /* measured at once */
/* Sanitizers' own code is not ready yet. */
#define EARLY __attribute__((no_sanitize("address", "thread", "undefined")))

EARLY static int64_t now_ns(void) {
    struct timespec now = {0, 0};
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"((long)SYS_clock_gettime), "D"((long)CLOCK_MONOTONIC), "S"(&now)
                     : "rcx", "r11", "memory");
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* The shortest of several, as this thread may be interrupted. At least 1. */
EARLY static int64_t pauses_ns(void) {
    int64_t least = INT64_MAX;
    for (int round = 0; round < 4; round++) {
        int64_t start = now_ns();
        for (int i = 0; i < PAUSES; i++)
            __builtin_ia32_pause();
        int64_t took = now_ns() - start;
        least = took < least ? took : least;
    }
    return least < 1 ? 1 : least;
}

EARLY static int begins_with(const char *text, const char *start) {
    while (*start && *text == *start) {
        text++;
        start++;
    }
    return !*start;
}

/* Variables that no library reads while it starts; else the first is taken. */
static const char *const unread[] = {
    "_=", "OLDPWD=", "SHLVL=", "PWD=", "USER=", "HOSTNAME=", "HOME=", "PATH="};

static char variable[48] = "GOMP_SPINCOUNT=", *displaced, **place;

EARLY static void write_number(char *to, int64_t number) {
    int64_t unit = 1;
    while (unit * 10 <= number)
        unit *= 10;
    for (; unit > 0; unit /= 10)
        *to++ = (char)('0' + number / unit % 10);
}

EARLY static void choose_spin(int argc, char **argv, char **variables) {
    size_t best = sizeof unread / sizeof *unread + 1;
    (void)argc;
    (void)argv;

    for (char **at = variables; *at; at++) {
        size_t rank = 0;
        if (begins_with(*at, "GOMP_SPINCOUNT=") || begins_with(*at, "OMP_WAIT_POLICY="))
            return;
        while (rank < sizeof unread / sizeof *unread && !begins_with(*at, unread[rank]))
            rank++;
        if (rank < best) {
            best = rank;
            place = at;
        }
    }

    if (!place) /* there are no variables at all */
        return;
    write_number(variable + sizeof "GOMP_SPINCOUNT=" - 1, (int64_t)SPIN_NS * PAUSES / pauses_ns());
    displaced = *place;
    *place = variable;
}

/* Libraries have started. */
__attribute__((constructor)) static void restore_variables(void) {
    if (displaced)
        *place = displaced;
}

__attribute__((section(".preinit_array"),
               used)) static void (*const choose_spin_first)(int, char **, char **) = choose_spin;

static bool is_chosen_here(void) {
    return displaced != NULL;
}

#else

static bool is_chosen_here(void) {
    return false;
}

#endif

/* ---- While others want the processors ---- */

#define LOOK_NS 200000000
#define BUSY_SWITCHES 10 /* in that time: others are at work */
#define CALM_LOOKS 5     /* in a row, until they are not any more */

static sem_t calm; /* the team may go */

/* Its threads are counted until this one ends. */
static void *hold_threads(void *context) {
    (void)context;
    pthread_setname_np(pthread_self(), "short spin");
#pragma omp parallel num_threads(2)
    {
#pragma omp master
        while (sem_wait(&calm) != 0) {
        }
    }
    return NULL;
}

static long count_interruptions(void) {
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) == 0 ? usage.ru_nivcsw : 0;
}

static void *watch_interruptions(void *context) {
    const struct timespec pause = {.tv_nsec = LOOK_NS};
    long before = count_interruptions();
    bool holding = false;
    pthread_t holder;
    int quiet = 0;

    (void)context;
    pthread_setname_np(pthread_self(), "spin");
    for (;;) {
        nanosleep(&pause, NULL);
        long now = count_interruptions();
        bool busy = now - before > BUSY_SWITCHES;
        before = now;
        quiet = busy ? 0 : quiet + 1;

        if (busy && !holding) {
            holding = pthread_create(&holder, NULL, hold_threads, NULL) == 0;
        } else if (holding && quiet >= CALM_LOOKS) {
            sem_post(&calm);
            pthread_join(holder, NULL);
            holding = false;
        }
    }
    return NULL;
}

void spin_watch(void) {
    pthread_t watcher;
    sigset_t all, before;
    if (!is_chosen_here() || omp_get_max_threads() < 2 || sem_init(&calm, 0, 0) != 0)
        return;

    sigfillset(&all); /* they are for others */
    pthread_sigmask(SIG_BLOCK, &all, &before);
    if (pthread_create(&watcher, NULL, watch_interruptions, NULL) == 0)
        pthread_detach(watcher);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}
