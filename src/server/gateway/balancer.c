#include "server/gateway/balancer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

#define FAILURES_TO_EJECT 3
#define EJECTION_NS 1000000000ll
#define EJECTION_DOUBLINGS 5 /* 1 s … 32 s */
#define EJECTION_MOST_NS (30 * 1000000000ll)
#define SPARE_TOKENS 4096 /* more to do than the least, that a conversation waits for where it has been */
#define BUDGET_MOST 200.0
#define BUDGET_PER_REQUEST 0.2
#define BUDGET_PER_SECOND 10.0

static struct replica *replica_create(struct route_target *target) {
    struct replica *replica = calloc(1, sizeof *replica);
    if (!replica)
        return NULL;

    replica->url = *target->url;
    strcpy(replica->address, target->address);
    snprintf(replica->name, sizeof replica->name, "%s:%d", target->address, target->url->port);
    url_write_host(target->url, replica->host);
    replica->upstream = target->upstream;
    target->upstream = NULL;
    replica->references = 1;
    replica->healthy = true;
    return replica;
}

struct replica *replica_acquire(struct replica *replica) {
    replica->references++;
    return replica;
}

void replica_release(struct replica *replica) {
    if (!replica || --replica->references > 0)
        return;
    http_upstream_free(replica->upstream);
    free(replica);
}

void replica_begin(struct replica *replica) {
    replica_acquire(replica);
    replica->outstanding++;
}

void replica_abandoned(struct replica *replica) {
    replica->outstanding--;
    replica_release(replica);
}

void replica_succeeded(struct replica *replica) {
    replica->failures = 0;
    replica->ejections = 0;
    replica->ejected_until = 0;
    replica_abandoned(replica);
}

void replica_failed(struct replica *replica, bool refused, int64_t now_ns) {
    replica->failures++;
    if ((refused || replica->failures >= FAILURES_TO_EJECT) && replica->ejected_until <= now_ns) {
        int doublings = replica->ejections < EJECTION_DOUBLINGS ? replica->ejections : EJECTION_DOUBLINGS;
        int64_t lasts = EJECTION_NS << doublings;
        replica->ejected_until = now_ns + (lasts < EJECTION_MOST_NS ? lasts : EJECTION_MOST_NS);
        replica->ejections++;
        replica->failures = 0;
    }
    replica_abandoned(replica);
}

void replica_broke(struct replica *replica, int64_t now_ns) {
    replica->check_at = now_ns;
    replica_failed(replica, true, now_ns);
}

void replica_checked(struct replica *replica, bool healthy) {
    replica->checked = true;
    replica->healthy = healthy;
    if (healthy) {
        replica->ejected_until = 0;
        replica->failures = 0;
    }
}

void route_table_init(struct route_table *table, int bound) {
    *table = (struct route_table){.bound = bound};
}

static void replica_retire(struct replica *replica) {
    replica->retired = true;
    replica_release(replica);
}

struct route *route_acquire(struct route *route) {
    route->references++;
    return route;
}

void route_release(struct route *route) {
    if (route && --route->references == 0)
        free(route);
}

/* Remove a route from the table: holders of a reference find it empty. */
static void route_retire(struct route *route) {
    for (int i = 0; i < route->count; i++)
        replica_retire(route->replicas[i]);
    route->count = 0;
    route->retired = true;
    route_release(route);
}

void route_table_release(struct route_table *table) {
    for (size_t i = 0; i < table->count; i++)
        route_retire(table->routes[i]);
    free(table->routes);
    *table = (struct route_table){0};
}

struct route *route_table_find(const struct route_table *table, const char *model, size_t length) {
    for (size_t i = 0; i < table->count; i++)
        if (strncmp(table->routes[i]->model, model, length) == 0 && table->routes[i]->model[length] == 0)
            return table->routes[i];
    return NULL;
}

struct route *route_table_add(struct route_table *table, const char *model) {
    struct route *route = route_table_find(table, model, strlen(model));
    if (route)
        return route;

    struct route **routes = realloc(table->routes, (table->count + 1) * sizeof *routes);
    if (!routes)
        return NULL;
    table->routes = routes;
    route = calloc(1, sizeof *route);
    if (!route)
        return NULL;

    strncpy(route->model, model, sizeof route->model - 1);
    route->references = 1;
    route->bound = table->bound;
    route->budget.tokens = BUDGET_MOST;
    routes[table->count++] = route;
    return route;
}

static void table_remove_at(struct route_table *table, size_t at) {
    route_retire(table->routes[at]);
    memmove(&table->routes[at], &table->routes[at + 1], (table->count - at - 1) * sizeof table->routes[0]);
    table->count--;
}

void route_table_remove(struct route_table *table, const char *model) {
    for (size_t i = 0; i < table->count; i++)
        if (strcmp(table->routes[i]->model, model) == 0) {
            table_remove_at(table, i);
            return;
        }
}

static bool replica_is(const struct replica *replica, const struct route_target *target) {
    return url_equal(&replica->url, target->url) && strcmp(replica->address, target->address) == 0;
}

struct replica *route_replica(const struct route *route, const struct route_target *target) {
    for (int i = 0; i < route->count; i++)
        if (replica_is(route->replicas[i], target))
            return route->replicas[i];
    return NULL;
}

bool route_update(struct route *route, struct route_target *targets, size_t count) {
    struct replica *next[LIMIT_REPLICAS];
    int filled = 0;
    bool complete = true;

    for (size_t t = 0; t < count && filled < LIMIT_REPLICAS; t++) {
        struct replica *found = route_replica(route, &targets[t]);
        if (found)
            replica_acquire(found);

        bool twice = false;
        for (int i = 0; i < filled; i++)
            twice |= replica_is(next[i], &targets[t]);
        if (!found && !twice)
            found = replica_create(&targets[t]);
        if (found && !twice)
            next[filled++] = found;
        else if (found)
            replica_release(found);
        complete &= found || twice;
    }

    for (int i = 0; i < route->count; i++) {
        bool stays = false;
        for (int n = 0; n < filled; n++)
            stays |= next[n] == route->replicas[i];
        route->replicas[i]->retired = !stays;
        replica_release(route->replicas[i]);
    }

    memcpy(route->replicas, next, (size_t)filled * sizeof next[0]);
    route->count = filled;
    return complete;
}

bool route_table_update(struct route_table *table, struct route_target *targets, size_t count) {
    struct route_target *own = calloc(count + 1, sizeof *own);
    if (!own)
        return false;

    bool complete = true;
    for (size_t i = 0; i < table->count; i++)
        table->routes[i]->marked = false;

    for (size_t t = 0; t < count; t++) {
        struct route *route = route_table_add(table, targets[t].model);
        if (!route) {
            complete = false;
            continue;
        }
        if (route->marked)
            continue;

        route->marked = true;
        size_t mine = 0;
        for (size_t u = t; u < count; u++)
            if (strcmp(targets[u].model, route->model) == 0 && targets[u].address[0])
                own[mine++] = targets[u];

        complete &= route_update(route, own, mine);
        mine = 0;
        for (size_t u = t; u < count; u++)
            if (strcmp(targets[u].model, route->model) == 0 && targets[u].address[0])
                targets[u].upstream = own[mine++].upstream; /* NULL where it was taken */
    }

    free(own);
    for (size_t i = table->count; i-- > 0;)
        if (!table->routes[i]->marked)
            table_remove_at(table, i);
    return complete;
}

static bool was_tried(const struct replica *replica, struct replica *const *tried, int count) {
    for (int i = 0; i < count; i++)
        if (tried[i] == replica)
            return true;
    return false;
}

/* How likely a replica is to respond, best first. */
enum standing {
    STANDING_WELL,
    STANDING_DOUBTFUL, /* the last check failed, but no request since: it may be back */
    STANDING_EJECTED,  /* requests failed recently */
    STANDINGS
};

static enum standing replica_standing(const struct replica *replica, int64_t now_ns) {
    if (replica->ejected_until > now_ns)
        return STANDING_EJECTED;
    return replica->healthy ? STANDING_WELL : STANDING_DOUBTFUL;
}

static int64_t tokens_on(const struct replica *replica) {
    return replica->asked_tokens > replica->queued_tokens ? replica->asked_tokens : replica->queued_tokens;
}

static bool has_less(const struct replica *a, const struct replica *b) {
    int64_t x = tokens_on(a), y = tokens_on(b);
    return x != y ? x < y : a->outstanding < b->outstanding;
}

/* The healthy replica that a conversation belongs to: each draws a number, and the highest has it, so that
 * one that comes or goes moves no others' (Thaler and Ravishankar 1998). `best` has the least to do. */
static struct replica *find_home(const struct route *route, uint64_t affinity, struct replica *best,
                                 struct replica *const *tried, int tried_count, int64_t now_ns) {
    struct replica *home = best;
    uint64_t highest = 0;

    for (int i = 0; i < route->count; i++) {
        struct replica *replica = route->replicas[i];
        uint64_t number = hash_bytes(affinity, replica->name, strlen(replica->name));
        number = (number ^ number >> 32) * 0x9e3779b97f4a7c15u;
        if (number >= highest && replica_standing(replica, now_ns) == STANDING_WELL &&
            replica->outstanding < route->bound && !was_tried(replica, tried, tried_count)) {
            highest = number;
            home = replica;
        }
    }
    return tokens_on(home) <= 2 * tokens_on(best) + SPARE_TOKENS ? home : best;
}

enum route_choice route_choose(struct route *route, uint64_t affinity, struct replica *const *tried,
                               int tried_count, int64_t now_ns, struct replica **ret) {
    struct replica *best[STANDINGS] = {NULL};
    bool full[STANDINGS] = {false};

    if (route->count == 0)
        return ROUTE_EMPTY;
    unsigned start = route->rotation++;

    for (int i = 0; i < route->count; i++) {
        struct replica *replica = route->replicas[(start + (unsigned)i) % (unsigned)route->count];
        enum standing standing = replica_standing(replica, now_ns);
        if (was_tried(replica, tried, tried_count))
            continue;

        if (replica->outstanding >= route->bound)
            full[standing] = true;
        else if (!best[standing] || has_less(replica, best[standing]))
            best[standing] = replica;
    }
    if (affinity && best[STANDING_WELL])
        best[STANDING_WELL] = find_home(route, affinity, best[STANDING_WELL], tried, tried_count, now_ns);

    for (int standing = 0; standing < STANDINGS; standing++) {
        if (best[standing]) {
            *ret = best[standing];
            return ROUTE_FOUND;
        }
        if (full[standing])
            return ROUTE_FULL;
    }
    return tried_count > 0 ? ROUTE_TRIED : ROUTE_EMPTY;
}

static void budget_add(struct retry_budget *budget, double tokens, int64_t now_ns) {
    if (budget->touched)
        tokens += BUDGET_PER_SECOND * (double)(now_ns - budget->touched) / 1e9;
    budget->touched = now_ns;
    budget->tokens = fmin(BUDGET_MOST, budget->tokens + tokens);
}

void route_budget_deposit(struct route *route, int64_t now_ns) {
    budget_add(&route->budget, BUDGET_PER_REQUEST, now_ns);
}

bool route_budget_take(struct route *route, int64_t now_ns) {
    budget_add(&route->budget, 0, now_ns);
    if (route->budget.tokens < 1)
        return false;
    route->budget.tokens -= 1;
    return true;
}

void route_note_time(struct route *route, double ms) {
    route->recent_ms[route->recent_count++ % ROUTE_RECENT] = (float)ms;
}

static int compare_times(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

double route_typical_ms(const struct route *route) {
    unsigned count = route->recent_count < ROUTE_RECENT ? route->recent_count : ROUTE_RECENT;
    float sorted[ROUTE_RECENT];

    if (count == 0)
        return 0;
    memcpy(sorted, route->recent_ms, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, compare_times);
    return (sorted[(count - 1) / 2] + sorted[count / 2]) / 2;
}

int route_outstanding(const struct route *route) {
    int outstanding = route->waiting + route->resuming;
    for (int i = 0; i < route->count; i++)
        outstanding += route->replicas[i]->outstanding;
    return outstanding;
}

int route_well_count(const struct route *route, int64_t now_ns) {
    int count = 0;
    for (int i = 0; i < route->count; i++)
        count += replica_standing(route->replicas[i], now_ns) == STANDING_WELL;
    return count;
}

bool route_ready(const struct route *route, int64_t now_ns) {
    return route_well_count(route, now_ns) > 0;
}
