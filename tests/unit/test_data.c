/* Sets of photos: which are found, their classes, loading on threads, and a model run over them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "data/evaluator.h"
#include "data/loader.h"
#include "data/photo_set.h"
#include "own_folder.h"

static struct model *animals;
static int load_model(void **state) {
    const struct model_options options = {.engine = {.precision = PRECISION_F32, .threads = 1}};
    struct error error;
    animals = model_load("models/animals", &options, &error);
    return animals ? 0 : -1;
}

static int free_model(void **state) {
    model_free(animals);
    return 0;
}

static void copy_photo(const char *from, const char *name) {
    struct error error;
    char source[256], path[256];
    size_t size;
    snprintf(source, sizeof source, "tests/fuzz/corpus/image/%s", from);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    cleanup(freep) char *bytes = file_read(source, 1 << 20, &size, &error);
    assert_true(bytes && file_write(path, bytes, size, &error));
}

static void make_group(const char *name) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(mkdir(path, 0777), 0);
}

static struct photo_source source_of(const char *labels) {
    return (struct photo_source){.folder = folder, .labels = labels, .label_offset = LABEL_OFFSET_AUTO};
}

static void classes_come_from_the_names_of_folders(void **state) {
    const struct photo_source source = source_of(NULL);
    struct photo_list list;
    struct error error;
    make_group("Bullfrog");
    make_group("goldfish");
    make_group("unicorn");
    make_group(".hidden");
    copy_photo("rgb.png", "goldfish/b.png");
    copy_photo("rgb.png", "goldfish/a.JPEG");
    copy_photo("rgb.png", "Bullfrog/1.webp");
    copy_photo("rgb.png", "unicorn/x.png");
    copy_photo("rgb.png", ".hidden/x.png");
    copy_photo("rgb.png", "alone.png");
    write_text("goldfish/notes.txt", "no photo");

    assert_true(photo_list_read(&source, animals, &list, &error));
    assert_int_equal(list.count, 5);
    assert_string_equal(list.files[0].name, "Bullfrog/1.webp");
    assert_int_equal(list.files[0].class_index, 2);
    assert_string_equal(list.files[1].name, "alone.png");
    assert_int_equal(list.files[1].class_index, -1);
    assert_int_equal(list.files[2].class_index, 0);
    assert_int_equal(list.files[4].class_index, -1);
    photo_list_thin(&list, 2);
    assert_int_equal(list.count, 2);
    photo_list_release(&list);

    assert_true(photo_list_read_labelled(&source, animals, &list, &error));
    assert_int_equal(list.count, 3);
    assert_int_equal(list.unknown_count, 1);
    assert_non_null(strstr(list.unknown[0], "/unicorn"));
    photo_list_release(&list);
}

static void classes_come_from_a_list(void **state) {
    char other[128];
    struct photo_source source = source_of(NULL);
    struct photo_list list;
    struct error error;
    copy_photo("rgb.png", "a.png");
    copy_photo("rgb.png", "b.png");
    copy_photo("rgb.png", "c.png");

    /* A list of classes, not of photos: it says nothing. */
    write_text("labels.tsv", "n01443537\tgoldfish\n");
    assert_true(photo_list_read(&source, animals, &list, &error));
    assert_true(list.count == 3 && list.files[0].class_index == -1);
    photo_list_release(&list);
    assert_false(photo_list_read_labelled(&source, animals, &list, &error));
    assert_int_equal(error.code, ERROR_NOT_FOUND);

    write_text("labels.tsv", "b.png\t2\r\n\na.png\tgoldfish\n");
    assert_true(photo_list_read(&source, animals, &list, &error));
    assert_true(list.count == 3 && list.files[0].class_index == 0 && list.files[1].class_index == 2 &&
                list.files[2].class_index == -1);
    photo_list_release(&list);
    assert_true(photo_list_read_labelled(&source, animals, &list, &error));
    assert_true(list.count == 2 && list.files[1].class_index == 2);
    photo_list_release(&list);

    snprintf(other, sizeof other, "%s/other.tsv", folder);
    source.labels = other;
    source.label_offset = 3;
    write_text("other.tsv", "c.png\t-1\n");
    assert_true(photo_list_read_labelled(&source, animals, &list, &error));
    assert_true(list.count == 1 && list.files[0].class_index == 2);
    photo_list_release(&list);
    source.label_offset = 0;
    assert_false(photo_list_read_labelled(&source, animals, &list, &error));
    assert_int_equal(error.code, ERROR_INVALID);
    assert_non_null(strstr(error.message, "line 1"));
}

static void photos_are_loaded_in_order_by_any_number_of_threads(void **state) {
    enum { COUNT = 100 };
    const struct photo_source source = source_of(NULL);
    struct photo_list list;
    struct loaded_photo photo;
    struct error error;
    char name[32];
    for (int i = 0; i < COUNT; i++) {
        snprintf(name, sizeof name, "%03d.png", i);
        if (i % 10 == 7)
            write_text(name, "broken");
        else
            copy_photo(i % 2 ? "rgb.png" : "progressive.jpg", name);
    }
    assert_true(photo_list_read(&source, animals, &list, &error));

    for (int threads = 1; threads <= 20; threads += 6) {
        struct photo_loader *loader = photo_loader_create(&list, model_input(animals), threads, &error);
        assert_non_null(loader);
        for (size_t i = 0; i < COUNT; i++) {
            assert_true(photo_loader_take(loader, &photo));
            assert_int_equal(photo.index, i);
            assert_int_equal(photo.prepared.tensor != NULL, i % 10 != 7);
            if (!photo.prepared.tensor)
                assert_non_null(strstr(photo.error.message, "7.png: "));
            free(photo.prepared.tensor);
        }
        assert_false(photo_loader_take(loader, &photo));
        photo_loader_free(loader);
    }

    /* Not all are taken. */
    struct photo_loader *loader = photo_loader_create(&list, model_input(animals), 3, &error);
    assert_true(photo_loader_take(loader, &photo));
    free(photo.prepared.tensor);
    photo_loader_free(loader);
    photo_list_release(&list);
}

static bool stop_at_two(void *context, const char *stage, uint64_t done, uint64_t total) {
    return done < 2;
}

static void photos_are_found_and_the_broken_named(void **state) {
    struct photo_request request = {.source = source_of(NULL), .threads = 2};
    struct photo_set set;
    struct error error = {0};
    assert_false(photo_set_load(&request, animals, &set, &error));
    assert_int_equal(error.code, ERROR_NOT_FOUND);
    assert_true(strstr(error.message, "no photos") != NULL);
    write_text("broken.jpg", "no picture");
    assert_false(photo_set_load(&request, animals, &set, &error));
    assert_int_equal(error.code, ERROR_INVALID);
    assert_non_null(strstr(error.message, "no photo in it can be"));

    make_group("cats");
    copy_photo("palette.png", "cats/one.png");
    copy_photo("grey.jpg", "two.JPG");
    write_text("notes.txt", "no photo");
    if (!photo_set_load(&request, animals, &set, &error))
        fail_msg("%s", error.message);
    assert_int_equal(set.found, 3);
    assert_int_equal(set.count, 2);
    assert_string_equal(set.photos[0].name, "cats/one.png");
    assert_int_equal(set.photos[0].class_index, -1);
    assert_int_equal(set.elements, 3 * 64 * 64);
    assert_int_equal(set.skipped_count, 1);
    assert_int_equal(strncmp(set.skipped[0], "broken.jpg: not an image", 24), 0);
    uint64_t key = set.key;
    photo_set_release(&set);

    request.limit = 2;
    assert_true(photo_set_load(&request, animals, &set, &error));
    assert_true(set.key != key && set.found == 3);
    photo_set_release(&set);
    request.limit = 0;
    request.report = stop_at_two;
    assert_false(photo_set_load(&request, animals, &set, &error));
    assert_int_equal(error.code, ERROR_UNAVAILABLE);
}

/* ---- Evaluation ---- */

struct seen {
    size_t order[16];
    int count, best[16];
    double sums[16];
};

static void note(void *context, const struct evaluated_photo *photo) {
    struct seen *seen = context;
    seen->order[seen->count] = photo->photo;
    seen->best[seen->count] = photo->best[0].index;
    assert_int_equal(photo->top, EVALUATOR_TOP);
    assert_true(photo->probabilities[photo->best[0].index] == photo->best[0].probability);
    for (int i = 0; i < model_class_count(animals); i++)
        seen->sums[seen->count] += photo->probabilities[i];
    seen->count++;
}

static void batches_of_any_size_say_the_same(void **state) {
    static const char *const names[] = {"rgb.png", "palette.png", "cmyk.jpg", "film.webp", "lossy.webp"};
    struct prepared_photo photos[5];
    struct seen first = {0};
    struct timing timing = {0};
    struct error error;
    for (int i = 0; i < 5; i++) {
        char path[64];
        size_t size;
        snprintf(path, sizeof path, "tests/fuzz/corpus/image/%s", names[i]);
        cleanup(freep) char *bytes = file_read(path, 1 << 20, &size, &error);
        assert_true(bytes && photo_prepare(model_input(animals), (const uint8_t *)bytes, size, &photos[i],
                                           &timing, &error));
    }

    for (int batch = 1; batch <= 6; batch++) {
        struct seen seen = {0};
        struct evaluator *evaluator = evaluator_create(animals, batch, note, &seen, &error);
        assert_non_null(evaluator);
        for (size_t i = 0; i < 5; i++)
            assert_true(evaluator_add(evaluator, i + 10, photos[i].tensor, 64, 64, &error));
        assert_true(evaluator_finish(evaluator, &error) && evaluator_finish(evaluator, &error));
        evaluator_free(evaluator);

        assert_int_equal(seen.count, 5);
        if (batch == 1)
            first = seen;
        for (int i = 0; i < 5; i++) {
            assert_int_equal(seen.order[i], i + 10);
            assert_int_equal(seen.best[i], first.best[i]);
            assert_float_equal(seen.sums[i], 1, 1e-5);
        }
    }
    for (int i = 0; i < 5; i++)
        free(photos[i].tensor);
}

static void hits_count_known_classes_alone(void **state) {
    const struct prediction best[] = {{.index = 4}, {.index = 1}, {.index = 9}};
    struct hits hits = {0};
    hits_add(&hits, best, 3, 4);
    hits_add(&hits, best, 3, 9);
    hits_add(&hits, best, 3, 7);
    hits_add(&hits, best, 3, -1);
    assert_true(hits.count == 3 && hits.first == 1 && hits.five == 2);
}

#define folder_test(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void) {
    const struct CMUnitTest tests[] = {
        folder_test(classes_come_from_the_names_of_folders),
        folder_test(classes_come_from_a_list),
        folder_test(photos_are_loaded_in_order_by_any_number_of_threads),
        folder_test(photos_are_found_and_the_broken_named),
        cmocka_unit_test(batches_of_any_size_say_the_same),
        cmocka_unit_test(hits_count_known_classes_alone),
    };
    return cmocka_run_group_tests(tests, load_model, free_model);
}
