/* A model folder's small files: recipes, labels, and where things are found. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "model/directory.h"
#include "model/find.h"
#include "model/folder.h"
#include "model/labels.h"
#include "model/recipe.h"

static char folder[] = "/tmp/guichet-model-XXXXXX";

static char *in_folder(const char *name) {
    static char paths[4][256];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static void write_text(const char *name, const char *text) {
    struct error error;
    assert_true(file_write(in_folder(name), text, strlen(text), &error));
}

static struct image_recipe recipe_of(const char *text) {
    struct image_recipe recipe;
    struct error error = {0};
    write_text("recipe.json", text);
    if (!recipe_read(in_folder("recipe.json"), &recipe, &error))
        fail_msg("%s", error.message);
    return recipe;
}

static void recipe_refused(const char *text, const char *part) {
    struct image_recipe recipe;
    struct error error = {0};
    write_text("recipe.json", text);
    assert_false(recipe_read(in_folder("recipe.json"), &recipe, &error));
    assert_int_equal(error.code, ERROR_MODEL);
    if (!strstr(error.message, part) || !strstr(error.message, "recipe.json"))
        fail_msg("'%s' does not say '%s'", error.message, part);
}

static void steps(const struct image_recipe *recipe, int from_width, int from_height, int resize_short,
                  int width, int height, enum image_filter filter) {
    int out_width, out_height;
    assert_true(image_recipe_size(recipe, from_width, from_height, &out_width, &out_height));
    assert_int_equal(recipe->resize_short, resize_short);
    assert_int_equal(out_width, width);
    assert_int_equal(out_height, height);
    assert_int_equal(recipe->filter, filter);
}

static void recipes_in_the_wild_are_understood(void **state) {
    struct image_recipe recipe =
        recipe_of("{\"feature_extractor_type\": \"ViTFeatureExtractor\", \"size\": 224}");
    steps(&recipe, 500, 400, 0, 224, 224, IMAGE_BILINEAR);
    assert_true(recipe.mean[0] == 0.5 && recipe.standard_deviation[2] == 0.5 && !recipe.do_center_crop);
    recipe = recipe_of(
        "{\"image_processor_type\": \"ViTImageProcessor\", \"size\": {\"height\": 224, \"width\": 200},"
        "\"resample\": 3, \"image_mean\": [0.485, 0.456, 0.406], \"image_std\": [0.229, 0.224, 0.225]}");
    steps(&recipe, 500, 400, 0, 200, 224, IMAGE_BICUBIC);
    assert_true(recipe.mean[2] == 0.406 && recipe.standard_deviation[0] == 0.229);
    recipe = recipe_of(
        "{\"feature_extractor_type\": \"ConvNextFeatureExtractor\", \"size\": 224, \"crop_pct\": 0.875,"
        "\"resample\": 3}");
    steps(&recipe, 500, 400, 256, 224, 224, IMAGE_BICUBIC);
    recipe = recipe_of(
        "{\"image_processor_type\": \"ConvNextImageProcessor\", \"size\": {\"shortest_edge\": 384}}");
    steps(&recipe, 500, 400, 0, 384, 384, IMAGE_BILINEAR);
    recipe = recipe_of(
        "{\"image_processor_type\": \"MobileNetV2ImageProcessor\", \"size\": {\"shortest_edge\": 256},"
        "\"crop_size\": {\"height\": 224, \"width\": 192}}");
    steps(&recipe, 500, 400, 256, 192, 224, IMAGE_BILINEAR);
    recipe = recipe_of("{\"image_processor_type\": \"LevitImageProcessor\"}");
    steps(&recipe, 500, 400, 256, 224, 224, IMAGE_BICUBIC);
    recipe = recipe_of("{\"size\": {\"shortest_edge\": 64}, \"crop_size\": 64, \"do_normalize\": false}");
    steps(&recipe, 50, 90, 64, 64, 64, IMAGE_BILINEAR);
    assert_false(recipe.do_normalize);
    recipe = recipe_of("{\"size\": 96, \"resample\": 0, \"image_mean\": 0.25}");
    steps(&recipe, 100, 50, 96, 192, 96, IMAGE_NEAREST);
    assert_true(recipe.mean[1] == 0.25);
    recipe =
        recipe_of("{\"image_processor_type\": \"EfficientNetImageProcessor\", \"rescale_offset\": true}");
    steps(&recipe, 100, 50, 0, 346, 346, IMAGE_NEAREST);
    assert_true(recipe.divide_again && recipe.rescale_offset == 1);
    recipe = recipe_of(
        "{\"image_processor_type\": \"MobileViTImageProcessor\", \"size\": {\"shortest_edge\": 288}}");
    steps(&recipe, 400, 400, 288, 256, 256, IMAGE_BILINEAR);
    assert_true(recipe.flip_channels && !recipe.do_normalize);
    recipe = recipe_of("{\"do_resize\": false, \"do_center_crop\": false, \"do_rescale\": false}");
    steps(&recipe, 17, 18, 224, 17, 18, IMAGE_BILINEAR);
}

static void recipes_that_cannot_be_name_their_field(void **state) {
    recipe_refused("{\"size\": \"big\"}", "'size'");
    recipe_refused("{\"size\": {\"longest_edge\": 5}}", "'size'");
    recipe_refused("{\"size\": 0}", "'size'");
    recipe_refused("{\"size\": {\"height\": 224, \"width\": 99999999}}", "'size'");
    recipe_refused("{\"crop_size\": [1]}", "'crop_size'");
    recipe_refused("{\"image_std\": [1, 0, 1]}", "'image_std' is not made of numbers other than 0");
    recipe_refused("{\"image_mean\": [1, 0]}", "'image_mean'");
    recipe_refused("{\"resample\": 9}", "'resample'");
    recipe_refused("{\"do_resize\": 1}", "'do_resize'");
    recipe_refused("{\"crop_pct\": 0}", "'crop_pct'");
    recipe_refused("{\"rescale_factor\": \"x\"}", "'rescale_factor'");
    recipe_refused("[]", "object");
    recipe_refused("{\n\"size\": }", "line 2");
    struct image_recipe recipe;
    struct error error = {0};
    assert_false(recipe_read(in_folder("nowhere.json"), &recipe, &error));
    assert_int_equal(error.code, ERROR_NOT_FOUND);
}

static void the_usual_recipe_is_imagenets(void **state) {
    struct image_recipe recipe;
    recipe_default(224, 224, &recipe);
    steps(&recipe, 640, 480, 256, 224, 224, IMAGE_BILINEAR);
    recipe_default(299, 299, &recipe);
    steps(&recipe, 640, 480, 342, 299, 299, IMAGE_BILINEAR);
    recipe_default(320, 200, &recipe);
    steps(&recipe, 640, 480, 0, 320, 200, IMAGE_BILINEAR);
}

static void labels_are_short_and_have_languages(void **state) {
    struct arena *arena = arena_create();
    struct labels labels;
    struct error error = {0};
    write_text("config.json",
               "{\"id2label\": {\"0\": \"tabby, tabby cat\", \"1\": \"golden retriever\", \"7\": \"far\"},"
               " \"id2wnid\": {\"1\": \"n02099601\"}}");
    write_text("labels_fr.json", "[\"chat tigré\"]");
    assert_true(labels_load(folder, 3, arena, &labels, &error));
    assert_string_equal(labels.names[0], "tabby");
    assert_string_equal(labels.names[1], "golden retriever");
    assert_string_equal(labels.names[2], "class 2");
    assert_int_equal(labels.language_count, 1);
    assert_string_equal(labels.languages[0].code, "fr");
    assert_string_equal(labels.languages[0].names[0], "chat tigré");
    assert_null(labels.languages[0].names[1]);
    assert_int_equal(labels_find(&labels, "Golden_Retriever"), 1);
    assert_int_equal(labels_find(&labels, "tabby cat"), 0);
    assert_int_equal(labels_find(&labels, "tabby, tabby cat"), 0);
    assert_int_equal(labels_find(&labels, "n02099601"), 1);
    assert_int_equal(labels_find(&labels, "dog"), -1);
    write_text("labels_fr.json", "[3]");
    assert_false(labels_load(folder, 3, arena, &labels, &error));
    assert_non_null(strstr(error.message, "labels_fr.json: entry 0"));
    unlink(in_folder("labels_fr.json"));
    write_text("config.json", "{\"id2label\": {\"zero\": \"a\"}}");
    assert_false(labels_load(folder, 3, arena, &labels, &error));
    assert_non_null(strstr(error.message, "'id2label'"));
    write_text("config.json", "{}");
    assert_true(labels_load(folder, 1000, arena, &labels, &error));
    assert_string_equal(labels.names[281], "tabby");
    assert_true(labels_load(folder, 1001, arena, &labels, &error));
    assert_string_equal(labels.names[0], "background");
    assert_string_equal(labels.names[1000], "toilet tissue");
    write_text("config.json", "{\"id2label\": [\"cat\", \"dog\", \"far\"]}");
    assert_true(labels_load(folder, 2, arena, &labels, &error));
    assert_string_equal(labels.names[1], "dog");
    write_text("config.json", "{\"id2label\": [\"cat\", 2]}");
    assert_false(labels_load(folder, 2, arena, &labels, &error));
    assert_non_null(strstr(error.message, "'id2label': entry 1"));
    write_text("config.json", "{\"id2label\": \"cat\"}");
    assert_false(labels_load(folder, 2, arena, &labels, &error));
    assert_non_null(strstr(error.message, "'id2label'"));
    arena_free(arena);
}

static void networks_are_found_by_folder_file_and_variant(void **state) {
    struct model_files files;
    struct error error = {0};
    mkdir(in_folder("tabby"), 0755);
    mkdir(in_folder("tabby/onnx"), 0755);
    assert_false(model_files_find(in_folder("tabby"), NULL, &files, &error));
    assert_int_equal(error.code, ERROR_NOT_FOUND);
    write_text("tabby/onnx/model.onnx", "x");
    write_text("tabby/onnx/model_quantized.onnx", "x");
    assert_true(model_files_find(in_folder("tabby"), NULL, &files, &error));
    assert_string_equal(files.name, "tabby");
    model_files_release(&files);
    assert_true(model_files_find(in_folder("tabby"), "int8", &files, &error));
    assert_string_equal(files.name, "tabby:int8");
    assert_non_null(strstr(files.network, "model_quantized.onnx"));
    model_files_release(&files);
    assert_true(model_files_find(in_folder("tabby/onnx/model.onnx"), NULL, &files, &error));
    assert_string_equal(files.name, "tabby");
    assert_non_null(strstr(files.folder, "/tabby"));
    assert_null(strstr(files.folder, "onnx"));
    model_files_release(&files);
    write_text("plain.onnx", "x");
    assert_true(model_files_find(in_folder("plain.onnx"), NULL, &files, &error));
    assert_string_equal(files.name, "plain");
    model_files_release(&files);
    assert_false(model_files_find(in_folder("tabby"), "../x", &files, &error));
    assert_false(model_files_find(in_folder("tabby"), "int4", &files, &error));
    assert_false(model_files_find(in_folder("config.json"), NULL, &files, &error));
    assert_non_null(strstr(error.message, "neither"));
}

static void names_are_looked_up_in_the_roots(void **state) {
    char *path = NULL, *variant = NULL;
    struct error error = {0};
    setenv("GUICHET_MODELS", folder, 1);
    assert_true(model_find("tabby", &path, &variant, &error));
    assert_non_null(strstr(path, "/tabby"));
    assert_null(variant);
    free(path);
    assert_true(model_find("tabby:int8", &path, &variant, &error));
    assert_string_equal(variant, "int8");
    free(path);
    free(variant);
    assert_false(model_find("tabby:int4", &path, &variant, &error));
    assert_false(model_find("lynx", &path, &variant, &error));
    assert_non_null(strstr(error.message, "'lynx'"));
    assert_false(model_find("./lynx", &path, &variant, &error));
    assert_int_equal(error.code, ERROR_NOT_FOUND);
}

static int make_folder(void **state) {
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static void a_folder_says_how_large_each_of_its_networks_is(void **state) {
    struct model_folder_list list;
    struct error error = {0};
    mkdir(in_folder("many"), 0755);
    mkdir(in_folder("many/cats"), 0755);
    write_text("many/cats/model.onnx", "1234567");
    write_text("many/cats/model_int8.onnx", "123");
    write_text("many/cats/model.onnx.bf16.baked", "1234567890");
    write_text("many/cats/config.json", "{}");
    mkdir(in_folder("many/empty"), 0755);
    assert_true(model_directory_list(in_folder("many"), &list, &error));
    assert_int_equal(list.count, 1);
    assert_string_equal(list.folders[0].name, "cats");
    assert_int_equal(list.folders[0].bytes, 9);
    assert_int_equal(list.folders[0].variant_count, 1);
    assert_string_equal(list.folders[0].variants[0].name, "int8");
    assert_int_equal(list.folders[0].variants[0].bytes, 5);
    model_folder_list_release(&list);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recipes_in_the_wild_are_understood),
        cmocka_unit_test(recipes_that_cannot_be_name_their_field),
        cmocka_unit_test(the_usual_recipe_is_imagenets),
        cmocka_unit_test(labels_are_short_and_have_languages),
        cmocka_unit_test(networks_are_found_by_folder_file_and_variant),
        cmocka_unit_test(a_folder_says_how_large_each_of_its_networks_is),
        cmocka_unit_test(names_are_looked_up_in_the_roots),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
