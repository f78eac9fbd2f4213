#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "http/internal.h"

struct http_loop {
    struct event_base *base;
    pthread_t thread;
    int index;
    bool started;
    pthread_mutex_t mutex; /* guards first_task and last_task */
    struct http_task *first_task, *last_task;
    int wake_fd;
    struct event wake;
    bool may_poll;         /* there is another processor to do what is waited for */
    int64_t poll_until_ns; /* 0: sleep between events */
    int64_t date_second;   /* the Date header, made again once a second */
    char date[40];
    struct buffer buffer;
    char scratch[HTTP_SCRATCH_BYTES];
};

struct http_loops {
    int count;
    struct http_loop **items;
};

static _Thread_local struct http_loop *current_loop;

static void run_tasks(struct http_loop *loop) {
    pthread_mutex_lock(&loop->mutex);
    struct http_task *task = loop->first_task;
    loop->first_task = loop->last_task = NULL;
    pthread_mutex_unlock(&loop->mutex);

    while (task) {
        struct http_task *next = task->next; /* the task may be gone once it ran */
        task->run(task);
        task = next;
    }
}

static void on_wake(evutil_socket_t fd, short what, void *context) {
    uint64_t count;
    if (read(fd, &count, sizeof count) == sizeof count)
        run_tasks(context);
}

/* Handle events until somebody breaks the loop. Sleep between them, but for what http_loop_poll_until asked.
 */
static void run_events(struct http_loop *loop) {
    do {
        bool poll = loop->poll_until_ns && clock_ns() < loop->poll_until_ns;
        if (!poll)
            loop->poll_until_ns = 0;
        event_base_loop(loop->base, EVLOOP_NO_EXIT_ON_EMPTY | (poll ? EVLOOP_NONBLOCK : EVLOOP_ONCE));
    } while (!event_base_got_break(loop->base));
}

static void *loop_main(void *context) {
    struct http_loop *loop = context;
    char name[16];
    snprintf(name, sizeof name, "http-%d", loop->index);
    pthread_setname_np(pthread_self(), name);
    current_loop = loop;

    run_events(loop);
    run_tasks(loop);
    return NULL;
}

void http_loop_submit(struct http_loop *loop, struct http_task *task, void (*run)(struct http_task *task)) {
    task->run = run;
    task->next = NULL;

    pthread_mutex_lock(&loop->mutex);
    bool was_empty = !loop->first_task;
    if (was_empty)
        loop->first_task = task;
    else
        loop->last_task->next = task;
    loop->last_task = task;
    pthread_mutex_unlock(&loop->mutex);

    if (was_empty) {
        uint64_t one = 1;
        ssize_t written = write(loop->wake_fd, &one, sizeof one);
        (void)written; /* fails only when the eventfd's count is full, and then the loop wakes anyway */
    }
}

struct posted {
    struct http_task task;
    void (*function)(void *context);
    void *context;
};

static void run_posted(struct http_task *task) {
    struct posted posted = *(struct posted *)task;
    free(task);
    posted.function(posted.context);
}

bool http_loop_post(struct http_loop *loop, void (*function)(void *context), void *context) {
    struct posted *posted = malloc(sizeof *posted);
    if (!posted)
        return false;

    posted->function = function;
    posted->context = context;
    http_loop_submit(loop, &posted->task, run_posted);
    return true;
}

static struct http_loop *loop_create(int index) {
    struct http_loop *loop = calloc(1, sizeof *loop);
    if (!loop)
        return NULL;

    pthread_mutex_init(&loop->mutex, NULL);
    loop->index = index;
    loop->may_poll = sysconf(_SC_NPROCESSORS_ONLN) > 1;
    loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    struct event_config *config = event_config_new();
    if (config) {
        /* A base's events belong to its own thread; other threads use http_loop_submit. */
        event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
        loop->base = event_base_new_with_config(config);
        event_config_free(config);
    }

    if (loop->base && loop->wake_fd >= 0) {
        event_assign(&loop->wake, loop->base, loop->wake_fd, EV_READ | EV_PERSIST, on_wake, loop);
        event_add(&loop->wake, NULL);
        loop->started = !pthread_create(&loop->thread, NULL, loop_main, loop);
    }
    return loop;
}

static void break_loop(void *context) {
    struct http_loop *loop = context;
    event_base_loopbreak(loop->base);
}

static void loop_free(struct http_loop *loop) {
    if (!loop)
        return;

    if (loop->started) {
        while (!http_loop_post(loop, break_loop, loop))
            usleep(10000);
        pthread_join(loop->thread, NULL);
    }

    if (loop->base) {
        if (loop->wake_fd >= 0)
            event_del(&loop->wake);
        event_base_free(loop->base);
    }
    if (loop->wake_fd >= 0)
        close(loop->wake_fd);
    buffer_release(&loop->buffer);
    pthread_mutex_destroy(&loop->mutex);
    free(loop);
}

struct http_loops *http_loops_create(int threads, struct error *error) {
    signal(SIGPIPE, SIG_IGN);

    struct http_loops *loops = calloc(1, sizeof *loops);
    if (loops)
        loops->items = calloc((size_t)threads, sizeof *loops->items);
    if (!loops || !loops->items) {
        free(loops);
        error_set(error, ERROR_MEMORY, "not enough memory for %d event loops", threads);
        return NULL;
    }

    for (; loops->count < threads; loops->count++) {
        struct http_loop *loop = loop_create(loops->count);
        if (!loop || !loop->started) {
            loop_free(loop);
            http_loops_free(loops);
            error_set(error, ERROR_IO, "cannot start an event loop: no memory, threads or files left");
            return NULL;
        }

        loops->items[loops->count] = loop;
    }
    return loops;
}

void http_loops_free(struct http_loops *loops) {
    if (!loops)
        return;

    for (int i = 0; i < loops->count; i++)
        loop_free(loops->items[i]);
    free(loops->items);
    free(loops);
}

int http_loops_count(const struct http_loops *loops) {
    return loops->count;
}

struct http_loop *http_loops_get(struct http_loops *loops, int index) {
    return loops->items[index];
}

struct event_base *http_loop_base(struct http_loop *loop) {
    return loop->base;
}

char *http_loop_scratch(struct http_loop *loop) {
    return loop->scratch;
}

struct buffer *http_loop_buffer(struct http_loop *loop) {
    loop->buffer.size = 0;
    loop->buffer.failed = false;
    return &loop->buffer;
}

void http_loop_poll_until(struct http_loop *loop, int64_t until_ns) {
    if (loop->may_poll)
        loop->poll_until_ns = until_ns;
}

int http_loop_index(const struct http_loop *loop) {
    return loop->index;
}

struct http_loop *http_loop_current(void) {
    return current_loop;
}

struct http_timer {
    struct event event;
    void (*function)(void *context);
    void *context;
};

static void on_timer(evutil_socket_t fd, short what, void *context) {
    struct http_timer timer = *(struct http_timer *)context;
    free(context);
    timer.function(timer.context);
}

struct http_timer *http_timer_start(struct http_loop *loop, int milliseconds, void (*function)(void *context),
                                    void *context) {
    struct http_timer *timer = malloc(sizeof *timer);
    if (!timer)
        return NULL;

    timer->function = function;
    timer->context = context;
    evtimer_assign(&timer->event, loop->base, on_timer, timer);
    struct timeval after = {milliseconds / 1000, milliseconds % 1000 * 1000};
    evtimer_add(&timer->event, &after);
    return timer;
}

void http_timer_cancel(struct http_timer *timer) {
    if (!timer)
        return;

    evtimer_del(&timer->event);
    free(timer);
}

const char *http_loop_date(struct http_loop *loop) {
    time_t now = time(NULL);
    if (now != loop->date_second || !*loop->date) {
        static const char days[][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
        static const char months[][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                         "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

        struct tm t;
        gmtime_r(&now, &t);
        snprintf(loop->date, sizeof loop->date, "%s, %02d %s %04d %02d:%02d:%02d GMT", days[t.tm_wday],
                 t.tm_mday, months[t.tm_mon], (t.tm_year + 1900) % 10000, t.tm_hour, t.tm_min, t.tm_sec);
        loop->date_second = now;
    }
    return loop->date;
}
