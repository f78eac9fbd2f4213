/* llm/kv_pages, llm/prefix: pages that sequences share, and what goes when there is no room. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include "llm/prefix.h"

enum { PAGES = 8, TOKENS = PAGES * KV_PAGE };

struct fixture {
    struct kv_pool *pool;
    struct prefix_index *index;
    int32_t tokens[TOKENS];
};

/* A sequence that computes what it does not find. */
struct reader {
    struct prefix_place place;
    struct kv_pages pages;
};

static void start(struct fixture *fixture) {
    *fixture = (struct fixture){.pool = kv_pool_create(PAGES)};
    fixture->index = prefix_index_create(fixture->pool, PAGES);
    assert_non_null(fixture->index);
    for (int i = 0; i < TOKENS; i++)
        fixture->tokens[i] = i;
}

static void end(struct fixture *fixture) {
    prefix_index_free(fixture->index);
    assert_int_equal(kv_pool_free_pages(fixture->pool), PAGES);
    kv_pool_free(fixture->pool);
}

static int read_tokens(struct fixture *fixture, struct reader *reader, uint64_t scope, size_t count) {
    *reader = (struct reader){.place = PREFIX_BEGINNING(scope)};
    int found = prefix_follow(fixture->index, &reader->place, fixture->tokens, count, &reader->pages);
    int missing = (int)((count + KV_PAGE - 1) / KV_PAGE) - found;
    assert_true(prefix_make_room(fixture->index, missing));
    assert_true(kv_pages_reserve(fixture->pool, &reader->pages, (int64_t)count));
    prefix_add(fixture->index, &reader->place, fixture->tokens, (int)(count / KV_PAGE), &reader->pages);
    return found;
}

static void leave(struct fixture *fixture, struct reader *reader) {
    prefix_leave(fixture->index, &reader->place);
    kv_pages_release(fixture->pool, &reader->pages);
}

static void prompts_that_begin_alike_share_pages(void **state) {
    struct fixture fixture;
    struct reader a, b, c;
    start(&fixture);

    assert_int_equal(read_tokens(&fixture, &a, 0, 3 * KV_PAGE + 5), 0);
    assert_int_equal(read_tokens(&fixture, &b, 0, 2 * KV_PAGE + 1), 2);
    assert_int_equal(b.pages.pages[0], a.pages.pages[0]);
    assert_int_equal(b.pages.pages[1], a.pages.pages[1]);
    assert_int_not_equal(b.pages.pages[2], a.pages.pages[2]);
    assert_int_equal(kv_pool_free_pages(fixture.pool), PAGES - 5);

    fixture.tokens[KV_PAGE]++; /* what differs, and all behind it, is not shared */
    assert_int_equal(read_tokens(&fixture, &c, 0, 3 * KV_PAGE), 1);
    leave(&fixture, &a);
    leave(&fixture, &b);
    leave(&fixture, &c);
    end(&fixture);
}

static void pages_outlive_their_sequence(void **state) {
    struct fixture fixture;
    struct reader a, b;
    start(&fixture);

    read_tokens(&fixture, &a, 0, 3 * KV_PAGE);
    leave(&fixture, &a);
    assert_int_equal(read_tokens(&fixture, &b, 0, 3 * KV_PAGE), 3);
    leave(&fixture, &b);
    end(&fixture);
}

static void scopes_are_apart(void **state) {
    struct fixture fixture;
    struct reader a, b, c;
    start(&fixture);

    read_tokens(&fixture, &a, 1, 2 * KV_PAGE);
    assert_int_equal(read_tokens(&fixture, &b, 2, 2 * KV_PAGE), 0);
    assert_int_equal(read_tokens(&fixture, &c, 1, 2 * KV_PAGE), 2);
    leave(&fixture, &a);
    leave(&fixture, &b);
    leave(&fixture, &c);
    end(&fixture);
}

static void two_that_compute_the_same_keep_one_page(void **state) {
    struct fixture fixture;
    struct reader a = {.place = PREFIX_BEGINNING(0)}, b = {.place = PREFIX_BEGINNING(0)};
    start(&fixture);

    assert_true(kv_pages_reserve(fixture.pool, &a.pages, KV_PAGE));
    assert_true(kv_pages_reserve(fixture.pool, &b.pages, KV_PAGE));
    prefix_add(fixture.index, &a.place, fixture.tokens, 1, &a.pages);
    prefix_add(fixture.index, &b.place, fixture.tokens, 1, &b.pages);
    assert_int_equal(a.pages.pages[0], b.pages.pages[0]);
    assert_int_equal(kv_pool_free_pages(fixture.pool), PAGES - 1);
    leave(&fixture, &a);
    leave(&fixture, &b);
    end(&fixture);
}

static void the_oldest_ends_go_first(void **state) {
    struct fixture fixture;
    struct reader a, b;
    start(&fixture);

    read_tokens(&fixture, &a, 1, 4 * KV_PAGE);
    leave(&fixture, &a);
    read_tokens(&fixture, &b, 2, 3 * KV_PAGE);
    leave(&fixture, &b);
    assert_true(prefix_make_room(fixture.index, 3)); /* 1 is free: two of the first prompt go, from its end */
    assert_int_equal(read_tokens(&fixture, &a, 1, 2 * KV_PAGE), 2);
    assert_int_equal(read_tokens(&fixture, &b, 2, 3 * KV_PAGE), 3);

    assert_false(prefix_make_room(fixture.index, PAGES)); /* what is in use stays */
    assert_int_equal(kv_pool_free_pages(fixture.pool), PAGES - 5);
    leave(&fixture, &a);
    leave(&fixture, &b);
    end(&fixture);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prompts_that_begin_alike_share_pages),
        cmocka_unit_test(pages_outlive_their_sequence),
        cmocka_unit_test(scopes_are_apart),
        cmocka_unit_test(two_that_compute_the_same_keep_one_page),
        cmocka_unit_test(the_oldest_ends_go_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
