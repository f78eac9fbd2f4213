/* serve/gateway_*: backends as text, API keys, rate limits, the choice of a replica. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include <sodium.h>

#include "base/file.h"
#include "server/gateway/backend_list.h"
#include "server/edge/api_keys.h"
#include "server/edge/rate_limit.h"
#include "server/gateway/balancer.h"

#define SECOND 1000000000ll

static void backends_are_read_from_text(void **state) {
    struct backend_list list = {0};
    struct error error = {0};
    assert_true(backend_list_parse(&list,
                                   "# two models\n"
                                   "cats=http://10.0.0.1:8081 http://10.0.0.2/base/ # replicas\r\n"
                                   "dogs:int8=https://dogs.example,http://[::1]:9\n",
                                   "file", &error));
    assert_int_equal(list.count, 4);
    assert_string_equal(list.entries[0].model, "cats");
    assert_int_equal(list.entries[0].url.port, 8081);
    assert_string_equal(list.entries[1].model, "cats");
    assert_string_equal(list.entries[1].url.host, "10.0.0.2");
    assert_string_equal(list.entries[1].url.path, "/base");
    assert_int_equal(list.entries[1].url.port, 80);
    assert_string_equal(list.entries[2].model, "dogs:int8");
    assert_true(list.entries[2].url.secure);
    assert_int_equal(list.entries[2].url.port, 443);
    assert_string_equal(list.entries[3].url.host, "::1");
    assert_int_equal(list.entries[3].url.port, 9);

    const char *bad[] = {
        "http://a",          "=http://a",     "a=ftp://b",       "a=http://",    "a=http://b:0",
        "a=http://b:65536",  "a=http://b:x",  "a=http://[::1",   "a=http://u@b", "a/b=http://c",
        "a=http://b:1:2",    "a=http://b?q",  "a=http://b/\x01", "a=",           "a=http://b:",
        "a=http://[::1]x:1", "a=http://b/?q", "a=http://b\\c"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        error.message[0] = 0;
        assert_false(backend_list_parse(&list, bad[i], "origin", &error));
        assert_int_equal(strncmp(error.message, "origin: ", 8), 0);
        assert_int_equal(list.count, 4);
    }
    assert_false(backend_list_parse(&list, "\n\na=nonsense", "file", &error));
    assert_int_equal(strncmp(error.message, "file:3: ", 8), 0);
    backend_list_release(&list);
}

static void the_typical_time_is_the_median_of_the_last(void **state) {
    struct route route = {0};

    assert_true(route_typical_ms(&route) == 0);
    route_note_time(&route, 500);
    assert_true(route_typical_ms(&route) == 500);
    route_note_time(&route, 2);
    route_note_time(&route, 3);
    assert_true(route_typical_ms(&route) == 3);
    route_note_time(&route, 4);
    assert_true(route_typical_ms(&route) == 3.5);
    for (int i = 0; i < ROUTE_RECENT; i++)
        route_note_time(&route, 7);
    assert_true(route_typical_ms(&route) == 7);
}

static void api_keys_are_kept_as_hashes(void **state) {
    char path[] = "/tmp/guichet-test-XXXXXX", key[API_KEY_BYTES], line[API_KEY_LINE_BYTES], text[400];
    close(mkstemp(path));
    struct error error = {0};

    assert_true(api_keys_make("ci", NULL, key, line, &error));
    assert_null(strstr(line, key));

    int length = snprintf(text, sizeof text,
                          "# keys\n\n%s\n guest "
                          "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8 # x\r\n",
                          line);
    assert_true(file_write(path, text, (size_t)length, &error));

    struct api_keys *keys = api_keys_read(path, &error);
    assert_non_null(keys);
    assert_string_equal(api_key_name(api_keys_find(keys, key, strlen(key))), "ci");
    assert_string_equal(api_key_name(api_keys_find(keys, "password", 8)), "guest");
    assert_null(api_keys_find(keys, "Password", 8));
    assert_null(api_keys_find(keys, "", 0));
    api_keys_release(keys);

    /* A NUL, which would hide what follows; one key in two lines. */
    static const char hidden[] = "a 5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8\0b";
    assert_true(file_write(path, hidden, sizeof hidden - 1, &error));
    assert_null(api_keys_read(path, &error));
    assert_non_null(strstr(error.message, "NUL"));
    static const char twice[] =
        "a 5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8\n"
        "c ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb\n"
        "b 5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8 roles=manage";
    assert_true(file_write(path, twice, sizeof twice - 1, &error));
    assert_null(api_keys_read(path, &error));
    assert_non_null(strstr(error.message, "of one key"));

    const char *bad[] = {
        "name",
        "name 12",
        "name 5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8 roles=predict roles=manage",
        "name 5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8 models=a models=b",
        "name 5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8 models=a,",
        "name 5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8 models=a,../b",
        "name zz884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8",
        "name 5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8 more",
        "name 5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d800"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_true(file_write(path, bad[i], strlen(bad[i]), &error));
        assert_null(api_keys_read(path, &error));
        assert_non_null(strstr(error.message, ":1: "));
    }

    unlink(path);
    assert_null(api_keys_read(path, &error));
    assert_false(api_keys_make("a b", NULL, key, line, &error));
    assert_false(api_keys_make("", NULL, key, line, &error));
}

static const struct api_key *read_key(const char *path, const char *rest, struct api_keys **ret_keys) {
    struct error error = {0};
    char text[200];
    int length =
        snprintf(text, sizeof text,
                 "guest 5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8 %s\n", rest);

    assert_true(file_write(path, text, (size_t)length, &error));
    *ret_keys = api_keys_read(path, &error);
    return *ret_keys ? api_keys_find(*ret_keys, "password", 8) : NULL;
}

static void api_keys_have_roles_and_models(void **state) {
    char path[] = "/tmp/guichet-test-XXXXXX";
    struct api_keys *keys;
    close(mkstemp(path));

    const struct api_key *key = read_key(path, "", &keys);
    assert_true(api_key_has_right(key, RIGHT_PREDICT) && api_key_has_right(key, RIGHT_METRICS));
    assert_false(api_key_has_right(key, RIGHT_MANAGE));
    assert_true(api_key_allows_model(key, "cats"));
    api_keys_release(keys);

    key = read_key(path, "roles=manage models=cats,dogs:int8", &keys);
    assert_true(api_key_has_right(key, RIGHT_MANAGE));
    assert_false(api_key_has_right(key, RIGHT_PREDICT) || api_key_has_right(key, RIGHT_METRICS));
    assert_true(api_key_allows_model(key, "cats") && api_key_allows_model(key, "dogs:int8"));
    assert_false(api_key_allows_model(key, "dogs") || api_key_allows_model(key, "cat") ||
                 api_key_allows_model(key, ""));
    api_keys_release(keys);

    static const char *const bad[] = {"roles=", "roles=root", "roles=predict,", "models=", "role=predict"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_null(read_key(path, bad[i], &keys));
    assert_true(api_key_allows_model(NULL, "cats"));
    unlink(path);
}

static void each_client_has_a_bucket_of_its_own(void **state) {
    struct rate_limiter *limiter = rate_limiter_create(10, 5);
    double wait = 0;

    for (int i = 0; i < 5; i++)
        assert_true(rate_limiter_take(limiter, "a", 1, SECOND, &wait));
    assert_false(rate_limiter_take(limiter, "a", 1, SECOND, &wait));
    assert_true(wait > 0.09 && wait < 0.11);

    assert_true(rate_limiter_take(limiter, "b", 1, SECOND, &wait));
    assert_true(rate_limiter_take(limiter, "a", 1, SECOND + SECOND / 10, &wait));
    assert_false(rate_limiter_take(limiter, "a", 1, SECOND + SECOND / 10, &wait));

    /* A flood of clients stays within the table. */
    for (uint64_t i = 0; i < 300000; i++)
        rate_limiter_take(limiter, (const char *)&i, sizeof i, 2 * SECOND, &wait);
    rate_limiter_free(limiter);
    rate_limiter_free(NULL);
}

/* A table with models "a" (three replicas) and "b" (one). */
static void table_fill(struct route_table *table, const struct url *url) {
    struct route_target targets[] = {
        {"a", url, "10.0.0.1"}, {"b", url, "10.0.1.1"}, {"a", url, "10.0.0.2"}, {"a", url, "10.0.0.3"}};
    assert_true(route_table_update(table, targets, 4));
}

static void the_least_loaded_replica_is_chosen(void **state) {
    struct route_table table;
    struct url url = {.port = 80, .host = "a"};
    route_table_init(&table, 4);
    table_fill(&table, &url);
    assert_int_equal(table.count, 2);

    struct route *route = route_table_find(&table, "a", 1);
    assert_int_equal(route->count, 3);
    assert_null(route_table_find(&table, "ab", 2));

    struct replica *chosen;
    for (int i = 0; i < 12; i++) {
        assert_int_equal(route_choose(route, 0, NULL, 0, SECOND, &chosen), ROUTE_FOUND);
        replica_begin(chosen);
    }

    for (int i = 0; i < 3; i++)
        assert_int_equal(route->replicas[i]->outstanding, 4);
    assert_int_equal(route_choose(route, 0, NULL, 0, SECOND, &chosen), ROUTE_FULL);

    replica_succeeded(route->replicas[1]);
    assert_int_equal(route_choose(route, 0, NULL, 0, SECOND, &chosen), ROUTE_FOUND);
    assert_ptr_equal(chosen, route->replicas[1]);
    assert_int_equal(route_choose(route, 0, &route->replicas[1], 1, SECOND, &chosen), ROUTE_FULL);
    assert_int_equal(route_outstanding(route), 11);

    for (int i = 0; i < 3; i++)
        while (route->replicas[i]->outstanding)
            replica_abandoned(route->replicas[i]);
    route_table_release(&table);
}

static void a_conversation_stays_where_it_has_been(void **state) {
    struct route_table table;
    struct url url = {.port = 80, .host = "a"};
    struct replica *home, *chosen;
    route_table_init(&table, 4);
    table_fill(&table, &url);
    struct route *route = route_table_find(&table, "a", 1);

    /* Every conversation has its replica, and all replicas have some. */
    int seen[3] = {0};
    for (uint64_t affinity = 1; affinity <= 60; affinity++) {
        route_choose(route, affinity, NULL, 0, SECOND, &home);
        for (int i = 0; i < 3; i++) {
            route_choose(route, affinity, NULL, 0, SECOND, &chosen);
            assert_ptr_equal(chosen, home);
            seen[i] += route->replicas[i] == home;
        }
    }
    for (int i = 0; i < 3; i++)
        assert_in_range(seen[i], 5, 40);

    /* Some more to do does not move it; much more does, and so do illness and a try that failed. */
    home->asked_tokens = 4000;
    route_choose(route, 60, NULL, 0, SECOND, &chosen);
    assert_ptr_equal(chosen, home);
    home->queued_tokens = 5000;
    route_choose(route, 60, NULL, 0, SECOND, &chosen);
    assert_ptr_not_equal(chosen, home);
    home->asked_tokens = home->queued_tokens = 0;
    route_choose(route, 60, &home, 1, SECOND, &chosen);
    assert_ptr_not_equal(chosen, home);
    home->healthy = false;
    route_choose(route, 60, NULL, 0, SECOND, &chosen);
    assert_ptr_not_equal(chosen, home);

    /* Without a conversation, whoever has fewer tokens to compute. */
    home->healthy = true;
    for (int i = 0; i < 3; i++)
        route->replicas[i]->asked_tokens = route->replicas[i] == home ? 10 : 20;
    for (int i = 0; i < 3; i++) {
        route_choose(route, 0, NULL, 0, SECOND, &chosen);
        assert_ptr_equal(chosen, home);
    }
    route_table_release(&table);
}

static void failing_replicas_are_left_alone_for_a_while(void **state) {
    struct route_table table;
    struct url url = {.port = 80, .host = "a"};
    route_table_init(&table, 4);
    table_fill(&table, &url);

    struct route *route = route_table_find(&table, "a", 1);
    struct replica *first = route->replicas[0], *chosen;
    replica_begin(first);
    replica_failed(first, true, SECOND); /* refused: ejected at once, for a second */

    for (int i = 0; i < 9; i++) {
        assert_int_equal(route_choose(route, 0, NULL, 0, SECOND + 5, &chosen), ROUTE_FOUND);
        assert_ptr_not_equal(chosen, first);
    }

    bool seen = false;
    for (int i = 0; i < 9; i++) {
        route_choose(route, 0, NULL, 0, 2 * SECOND, &chosen);
        seen |= chosen == first;
    }
    assert_true(seen);

    replica_begin(first);
    replica_failed(first, true, 2 * SECOND); /* again: for two */
    assert_int_equal(first->ejected_until, 4 * SECOND);

    replica_checked(first, true); /* a good check brings it back */
    assert_int_equal(first->ejected_until, 0);

    for (int i = 0; i < 3; i++) {
        assert_int_equal(first->ejected_until, 0);
        replica_begin(first);
        replica_failed(first, false, 5 * SECOND);
    }
    assert_true(first->ejected_until > 5 * SECOND);

    /* All unhealthy: an unhealthy replica is better than none. */
    for (int i = 0; i < 3; i++)
        replica_checked(route->replicas[i], false);
    assert_false(route_ready(route, 5 * SECOND));
    assert_int_equal(route_choose(route, 0, NULL, 0, 5 * SECOND, &chosen), ROUTE_FOUND);
    assert_int_equal(route_choose(route, 0, route->replicas, 3, 5 * SECOND, &chosen), ROUTE_TRIED);

    /* One whose last check failed is better than one that just failed requests, however few those have. */
    for (int i = 0; i < 3; i++) {
        replica_begin(route->replicas[i]);
        replica_failed(route->replicas[i], true, 9 * SECOND);
    }

    replica_begin(first);
    replica_succeeded(first);
    replica_begin(first);

    for (int i = 0; i < 9; i++) {
        assert_int_equal(route_choose(route, 0, NULL, 0, 9 * SECOND, &chosen), ROUTE_FOUND);
        assert_ptr_equal(chosen, first);
    }
    assert_int_equal(route_choose(route, 0, &first, 1, 9 * SECOND, &chosen), ROUTE_FOUND);
    replica_abandoned(first);
    route_table_release(&table);
}

static void retries_are_paid_for(void **state) {
    struct route_table table;
    route_table_init(&table, 4);
    struct route *route = route_table_add(&table, "a");

    int taken = 0;
    while (route_budget_take(route, SECOND))
        taken++;
    assert_int_equal(taken, 200);

    for (int i = 0; i < 6; i++)
        route_budget_deposit(route, SECOND);
    assert_true(route_budget_take(route, SECOND));
    assert_false(route_budget_take(route, SECOND));
    assert_true(route_budget_take(route, SECOND + SECOND / 5));

    route_table_release(&table);
}

static void a_new_table_keeps_what_stays(void **state) {
    struct route_table table;
    struct url url = {.port = 80, .host = "a"};
    route_table_init(&table, 4);
    table_fill(&table, &url);

    struct route *route = route_acquire(route_table_find(&table, "a", 1));
    struct replica *kept = route->replicas[1], *dropped = route->replicas[2];
    replica_begin(kept);
    replica_begin(dropped);

    struct route_target next[] = {
        {"c", &url, ""}, {"a", &url, "10.0.0.2"}, {"a", &url, "10.0.0.9"}, {"a", &url, "10.0.0.2"}};
    assert_true(route_table_update(&table, next, 4));

    assert_int_equal(table.count, 2);
    assert_null(route_table_find(&table, "b", 1));
    struct replica *chosen;
    assert_int_equal(route_choose(route_table_find(&table, "c", 1), 0, NULL, 0, SECOND, &chosen),
                     ROUTE_EMPTY);

    assert_ptr_equal(route_table_find(&table, "a", 1), route);
    assert_int_equal(route->count, 2);
    assert_ptr_equal(route->replicas[0], kept);
    assert_int_equal(kept->outstanding, 1);
    assert_false(kept->retired);
    assert_true(dropped->retired);
    assert_string_equal(route->replicas[1]->address, "10.0.0.9");

    replica_succeeded(dropped); /* its last request ends: freed */
    replica_succeeded(kept);

    route_table_remove(&table, "a");
    assert_true(route->retired);
    assert_int_equal(route_choose(route, 0, NULL, 0, SECOND, &chosen), ROUTE_EMPTY);

    route_release(route);
    route_table_release(&table);
}

int main(void) {
    if (sodium_init() < 0)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(backends_are_read_from_text),
        cmocka_unit_test(the_typical_time_is_the_median_of_the_last),
        cmocka_unit_test(api_keys_are_kept_as_hashes),
        cmocka_unit_test(api_keys_have_roles_and_models),
        cmocka_unit_test(each_client_has_a_bucket_of_its_own),
        cmocka_unit_test(the_least_loaded_replica_is_chosen),
        cmocka_unit_test(a_conversation_stays_where_it_has_been),
        cmocka_unit_test(failing_replicas_are_left_alone_for_a_while),
        cmocka_unit_test(retries_are_paid_for),
        cmocka_unit_test(a_new_table_keeps_what_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
