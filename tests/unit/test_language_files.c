/* GGUF files of a folder: variants, parts, which one is meant, and guichet.json. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/file.h"
#include "model/directory.h"
#include "model/find.h"
#include "model/settings.h"
#include "own_folder.h"

static struct language_files list_of(const char *const *names) {
    struct language_files list = {0};
    for (uint64_t bytes = 100; *names; names++, bytes--)
        assert_true(language_files_add(&list, *names, bytes));
    language_files_settle(&list);
    return list;
}

static void assert_variant(const char *name, const char *variant) {
    struct language_files list = list_of((const char *[]){name, NULL});
    assert_int_equal(list.count, 1);
    assert_string_equal(list.files[0].variant, variant);
    language_files_release(&list);
}

static void a_file_is_called_by_its_type_of_weights(void **state) {
    assert_variant("SmolLM2-135M-Instruct-Q4_K_M.gguf", "Q4_K_M");
    assert_variant("deep/folder/qwen2.5-0.5b-instruct-q8_0.gguf", "Q8_0");
    assert_variant("Llama-3.2-1B.iq4_xs.GGUF", "IQ4_XS");
    assert_variant("phi-3-mini-4k-instruct-fp16.gguf", "F16");
    assert_variant("a-bf16.gguf", "BF16");
    assert_variant("q4_0.gguf", "Q4_0");
    assert_variant("big-Q6_K-00002-of-00003.gguf", "Q6_K");
    assert_variant("stories260K.gguf", "stories260K");
    assert_variant("gemma-2-2b-it.gguf", "gemma-2-2b-it");
    assert_variant("x-Q4.gguf", "x-Q4");
    assert_variant("x-Q4_!.gguf", "");
    assert_variant("what is this.gguf", "");
}

static void what_is_no_model_is_ignored(void **state) {
    struct language_files list = list_of(
        (const char *[]){"mmproj-model-f16.gguf", "README.md", ".hidden-Q4_0.gguf", ".gguf", "gguf", NULL});
    assert_int_equal(list.count, 0);
    assert_null(language_files_default(&list));
    language_files_release(&list);
}

static void parts_are_one_file(void **state) {
    struct language_files list = list_of((const char *[]){
        "b-F16-00003-of-00003.gguf", "b-F16-00001-of-00003.gguf", "b-F16-00002-of-00003.gguf",
        "b-Q8_0-00002-of-00002.gguf", "b-Q4_0-00001-of-00001.gguf", "b-Q5_0-00000-of-00002.gguf", NULL});
    assert_int_equal(list.count, 4);
    assert_string_equal(list.files[0].path, "b-F16-00001-of-00003.gguf");
    assert_int_equal(list.files[0].parts, 3);
    assert_int_equal(list.files[0].parts_found, 3);
    assert_int_equal(list.files[0].bytes, 100 + 99 + 98);
    const struct language_file *file = language_files_find(&list, "q8_0");
    assert_string_equal(file->path, "b-Q8_0-00001-of-00002.gguf");
    assert_int_equal(file->parts_found, 1);
    language_files_release(&list);
}

static void assert_default(const char *expected, const char *const *names) {
    struct language_files list = list_of(names);
    const struct language_file *file = language_files_default(&list);
    assert_non_null(file);
    assert_string_equal(file->path, expected);
    language_files_release(&list);
}

static void the_usual_file_is_meant_where_none_is_named(void **state) {
    /* the first of a list is the largest */
    assert_default("a.gguf", (const char *[]){"a.gguf", NULL});
    assert_default("a-q4_k_m.gguf",
                   (const char *[]){"a-F16.gguf", "a-Q8_0.gguf", "a-q4_k_m.gguf", "a-Q4_0.gguf", NULL});
    assert_default("a-Q4_0.gguf",
                   (const char *[]){"a-F16.gguf", "a-Q8_0.gguf", "a-Q4_0.gguf", "a-Q3_K_M.gguf", NULL});
    assert_default("a-Q3_K_M.gguf", (const char *[]){"a-Q3_K_M.gguf", "a-Q2_K.gguf", NULL});
    assert_default("a-F16.gguf", (const char *[]){"a-F16.gguf", "a-Q2_K.gguf", NULL});
    assert_default("a.gguf", (const char *[]){"a.gguf", "b.gguf", NULL});
}

static void files_that_share_a_type_are_called_by_their_names(void **state) {
    struct language_files list =
        list_of((const char *[]){"small-Q8_0.gguf", "large-Q8_0.gguf", "large-Q4_0.gguf", NULL});
    char names[40];
    assert_non_null(language_files_find(&list, "Q4_0"));
    assert_null(language_files_find(&list, "Q8_0"));
    assert_string_equal(language_files_find(&list, "SMALL-Q8_0")->path, "small-Q8_0.gguf");
    assert_string_equal(language_files_find(&list, "large-q4_0")->path, "large-Q4_0.gguf");
    language_files_name(&list, names, sizeof names);
    assert_string_equal(names, "Q4_0, large-Q8_0, small-Q8_0");
    language_files_name(&list, names, 10);
    assert_true(strlen(names) < 10);
    language_files_release(&list);
}

/* ---- Folders ---- */

static void assert_found(const char *path, const char *variant, const char *network, const char *name) {
    struct model_files files;
    struct error error = {0};
    if (!model_files_find(in_folder(path), variant, &files, &error))
        fail_msg("%s", error.message);
    assert_int_equal(files.kind, MODEL_LANGUAGE);
    assert_string_equal(strrchr(files.network, '/') + 1, network);
    assert_string_equal(files.name, name);
    model_files_release(&files);
}

static void a_folder_of_gguf_files_is_a_language_model(void **state) {
    struct model_files files;
    struct error error = {0};
    mkdir(in_folder("tales"), 0755);
    write_text("tales/tales-F16.gguf", "0123456789");
    assert_found("tales", NULL, "tales-F16.gguf", "tales");
    assert_found("tales", "f16", "tales-F16.gguf", "tales:F16");
    write_text("tales/tales-q8_0.gguf", "01234");
    write_text("tales/tales-Q4_0-00001-of-00002.gguf", "01");
    write_text("tales/tales-Q4_0-00002-of-00002.gguf", "0");
    assert_found("tales", NULL, "tales-Q4_0-00001-of-00002.gguf", "tales");
    assert_found("tales", "q8_0", "tales-q8_0.gguf", "tales:Q8_0");
    assert_found("tales/tales-q8_0.gguf", NULL, "tales-q8_0.gguf", "tales-q8_0");
    assert_found("tales/tales-Q4_0-00001-of-00002.gguf", NULL, "tales-Q4_0-00001-of-00002.gguf",
                 "tales-Q4_0");
    assert_false(model_files_find(in_folder("tales"), "Q5_K_M", &files, &error));
    assert_int_equal(error.code, ERROR_NOT_FOUND);
    assert_non_null(strstr(error.message, "no Q5_K_M; there is F16, Q4_0, Q8_0"));

    write_text("blob", "GGUF and more");
    assert_found("blob", NULL, "blob", "blob");
    write_text("other", "GGU");
    assert_false(model_files_find(in_folder("other"), NULL, &files, &error));
    assert_non_null(strstr(error.message, "neither a folder nor an .onnx or .gguf file"));

    setenv("GUICHET_MODELS", folder, 1);
    assert_true(model_find_files("tales:Q8_0", &files, &error));
    assert_string_equal(files.name, "tales:Q8_0");
    assert_true(model_files_check(&files, MODEL_LANGUAGE, &error));
    assert_false(model_files_check(&files, MODEL_NETWORK, &error));
    assert_non_null(strstr(error.message, "is a language model: try guichet"));
    model_files_release(&files);
}

static void a_folder_with_a_network_is_that(void **state) {
    struct model_files files;
    struct error error = {0};
    mkdir(in_folder("both"), 0755);
    write_text("both/model.onnx", "x");
    write_text("both/tales-Q8_0.gguf", "x");
    assert_true(model_files_find(in_folder("both"), NULL, &files, &error));
    assert_int_equal(files.kind, MODEL_NETWORK);
    assert_false(model_files_check(&files, MODEL_LANGUAGE, &error));
    assert_non_null(strstr(error.message, "is no language model: try guichet"));
    model_files_release(&files);
    assert_false(model_files_find(in_folder("both"), "Q8_0", &files, &error));
}

static const struct model_folder *folder_named(const struct model_folder_list *list, const char *name) {
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->folders[i].name, name) == 0)
            return &list->folders[i];
    return NULL;
}

static void language_models_are_listed(void **state) {
    struct model_folder_list list;
    struct error error = {0};
    assert_true(model_directory_list(folder, &list, &error));
    const struct model_folder *tales = folder_named(&list, "tales"), *both = folder_named(&list, "both");
    assert_int_equal(both->kind, MODEL_NETWORK);
    assert_int_equal(both->variant_count, 0);
    assert_int_equal(tales->kind, MODEL_LANGUAGE);
    assert_int_equal(tales->variant_count, 3);
    assert_string_equal(tales->variants[0].name, "F16");
    assert_string_equal(tales->variants[1].name, "Q4_0");
    assert_int_equal(tales->variants[1].bytes, 3);
    assert_int_equal(tales->bytes, 3);
    uint64_t stamp = tales->stamp;
    assert_int_equal(stamp, model_folder_stamp(tales->path));
    model_folder_list_release(&list);

    write_text("tales/tales-Q4_0-00002-of-00002.gguf", "012345");
    assert_int_not_equal(stamp, model_folder_stamp(in_folder("tales")));

    write_text("tales/guichet.json", "{\"variant\": \"f16\"}");
    assert_true(model_directory_list(folder, &list, &error));
    assert_int_equal(folder_named(&list, "tales")->bytes, 10 + strlen("{\"variant\": \"f16\"}"));
    model_folder_list_release(&list);
}

static void guichet_json_names_the_usual_file(void **state) {
    struct model_files files;
    struct error error = {0};
    assert_found("tales", NULL, "tales-F16.gguf", "tales");
    assert_found("tales", "Q8_0", "tales-q8_0.gguf", "tales:Q8_0");
    write_text("tales/guichet.json", "{\"variant\": \"Q2_K\"}");
    assert_false(model_files_find(in_folder("tales"), NULL, &files, &error));
    assert_non_null(strstr(error.message, "it contains no Q2_K; there is F16"));
}

static void guichet_json_is_read_by_kind(void **state) {
    struct model_settings settings;
    struct error error = {0};
    mkdir(in_folder("set"), 0755);
    assert_true(model_settings_read(in_folder("set"), MODEL_LANGUAGE, &settings, &error));
    assert_int_equal(settings.context, 0);
    write_text("set/guichet.json", "{\"context\": 4096, \"parallel\": 4, \"kv\": \"q8_0\", \"variant\": "
                                   "\"Q8_0\", \"precision\": \"f32\"}");
    assert_true(model_settings_read(in_folder("set"), MODEL_LANGUAGE, &settings, &error));
    assert_int_equal(settings.context, 4096);
    assert_int_equal(settings.parallel, 4);
    assert_string_equal(settings.kv, "q8_0");
    assert_string_equal(settings.variant, "Q8_0");
    assert_int_equal(settings.precision, PRECISION_F32);
    assert_false(model_settings_read(in_folder("set"), MODEL_NETWORK, &settings, &error));
    assert_int_equal(error.code, ERROR_MODEL);

    write_text("set/guichet.json",
               "{\"title\": \"Été\", \"description\": \"Seasons\", \"threads\": 2, \"batch\": 16, "
               "\"length\": 128}");
    assert_true(model_settings_read(in_folder("set"), MODEL_NETWORK, &settings, &error));
    assert_string_equal(settings.title, "Été");
    assert_string_equal(settings.description, "Seasons");
    assert_int_equal(settings.threads, 2);
    assert_int_equal(settings.batch, 16);
    assert_int_equal(settings.length, 128);
    assert_false(model_settings_read(in_folder("set"), MODEL_LANGUAGE, &settings, &error));

    static const struct {
        const char *json, *expected;
    } bad[] = {
        {"{\"title\": \"a\\nb\"}", "'title' is not a line of at most 127 bytes"},
        {"{\"title\": \"a\\u0000b\"}", "guichet.json"},
        {"{\"description\": 3}", "'description' is not a line of at most 399 bytes"},
        {"{\"contxt\": 1}",
         "unknown key 'contxt'; there is title, description, precision, variant, context, parallel, kv"},
        {"{\"context\": 0}", "'context' is not a number of tokens"},
        {"{\"context\": 1e3}", "'context' is not a number of tokens"},
        {"{\"context\": 99999999999}", "'context' is not a number of tokens"},
        {"{\"parallel\": \"4\"}", "'parallel' is not a number of sequences"},
        {"{\"kv\": \"q4_0\"}", "'kv' is not f16, bf16, q8_0 or f32"},
        {"{\"variant\": \"../x\"}", "'variant' is not the name"},
        {"{\"precision\": \"int8\"}", "'precision' is not auto or f32"},
        {"[]", "guichet.json"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_text("set/guichet.json", bad[i].json);
        assert_false(model_settings_read(in_folder("set"), MODEL_LANGUAGE, &settings, &error));
        assert_non_null(strstr(error.message, bad[i].expected));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_is_called_by_its_type_of_weights),
        cmocka_unit_test(what_is_no_model_is_ignored),
        cmocka_unit_test(parts_are_one_file),
        cmocka_unit_test(the_usual_file_is_meant_where_none_is_named),
        cmocka_unit_test(files_that_share_a_type_are_called_by_their_names),
        cmocka_unit_test(a_folder_of_gguf_files_is_a_language_model),
        cmocka_unit_test(a_folder_with_a_network_is_that),
        cmocka_unit_test(language_models_are_listed),
        cmocka_unit_test(guichet_json_names_the_usual_file),
        cmocka_unit_test(guichet_json_is_read_by_kind),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
