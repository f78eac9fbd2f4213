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
#include "model/name.h"
#include "model/outputs.h"
#include "model/prepare.h"
#include "model/preprocessing.h"
#include "own_folder.h"

static struct preprocessing preprocessing_of(const char *text) {
    struct preprocessing config;
    struct error error = {0};
    write_text("preprocessing.json", text);
    if (!preprocessing_read(in_folder("preprocessing.json"), &config, &error))
        fail_msg("%s", error.message);
    return config;
}

static void preprocessing_refused(const char *text, const char *part) {
    struct preprocessing config;
    struct error error = {0};
    write_text("preprocessing.json", text);
    assert_false(preprocessing_read(in_folder("preprocessing.json"), &config, &error));
    assert_int_equal(error.code, ERROR_MODEL);
    if (!strstr(error.message, part) || !strstr(error.message, "preprocessing.json"))
        fail_msg("'%s' does not say '%s'", error.message, part);
}

static void steps(const struct preprocessing *config, int from_width, int from_height, int resize_short,
                  int width, int height, enum image_filter filter) {
    struct image_geometry geometry;
    struct error error;
    assert_true(image_geometry_find(config, from_width, from_height, &geometry, &error));
    assert_int_equal(config->resize_short, resize_short);
    assert_int_equal(geometry.width, width);
    assert_int_equal(geometry.height, height);
    assert_int_equal(config->filter, filter);
}

static void preprocessing_in_the_wild_is_understood(void **state) {
    struct preprocessing config =
        preprocessing_of("{\"feature_extractor_type\": \"ViTFeatureExtractor\", \"size\": 224}");
    steps(&config, 500, 400, 0, 224, 224, IMAGE_BILINEAR);
    assert_true(config.mean[0] == 0.5 && config.standard_deviation[2] == 0.5 && !config.do_center_crop);
    config = preprocessing_of(
        "{\"image_processor_type\": \"ViTImageProcessor\", \"size\": {\"height\": 224, \"width\": 200},"
        "\"resample\": 3, \"image_mean\": [0.485, 0.456, 0.406], \"image_std\": [0.229, 0.224, 0.225]}");
    steps(&config, 500, 400, 0, 200, 224, IMAGE_BICUBIC);
    assert_true(config.mean[2] == 0.406 && config.standard_deviation[0] == 0.229);
    config = preprocessing_of(
        "{\"feature_extractor_type\": \"ConvNextFeatureExtractor\", \"size\": 224, \"crop_pct\": 0.875,"
        "\"resample\": 3}");
    steps(&config, 500, 400, 256, 224, 224, IMAGE_BICUBIC);
    config = preprocessing_of(
        "{\"image_processor_type\": \"ConvNextImageProcessor\", \"size\": {\"shortest_edge\": 384}}");
    steps(&config, 500, 400, 0, 384, 384, IMAGE_BILINEAR);
    config = preprocessing_of(
        "{\"image_processor_type\": \"MobileNetV2ImageProcessor\", \"size\": {\"shortest_edge\": 256},"
        "\"crop_size\": {\"height\": 224, \"width\": 192}}");
    steps(&config, 500, 400, 256, 192, 224, IMAGE_BILINEAR);
    config = preprocessing_of("{\"image_processor_type\": \"LevitImageProcessor\"}");
    steps(&config, 500, 400, 256, 224, 224, IMAGE_BICUBIC);
    config =
        preprocessing_of("{\"size\": {\"shortest_edge\": 64}, \"crop_size\": 64, \"do_normalize\": false}");
    steps(&config, 50, 90, 64, 64, 64, IMAGE_BILINEAR);
    assert_false(config.do_normalize);
    config = preprocessing_of("{\"size\": 96, \"resample\": 0, \"image_mean\": 0.25}");
    steps(&config, 100, 50, 96, 192, 96, IMAGE_NEAREST);
    assert_true(config.mean[1] == 0.25);
    config = preprocessing_of(
        "{\"image_processor_type\": \"EfficientNetImageProcessor\", \"rescale_offset\": true}");
    steps(&config, 100, 50, 0, 346, 346, IMAGE_NEAREST);
    assert_true(config.divide_again && config.rescale_offset == 1);
    config = preprocessing_of(
        "{\"image_processor_type\": \"MobileViTImageProcessor\", \"size\": {\"shortest_edge\": 288}}");
    steps(&config, 400, 400, 288, 256, 256, IMAGE_BILINEAR);
    assert_true(config.flip_channels && !config.do_normalize);
    config = preprocessing_of("{\"do_resize\": false, \"do_center_crop\": false, \"do_rescale\": false}");
    steps(&config, 17, 18, 224, 17, 18, IMAGE_BILINEAR);
}

static void preprocessing_that_cannot_be_names_its_field(void **state) {
    preprocessing_refused("{\"size\": \"big\"}", "'size'");
    preprocessing_refused("{\"size\": {\"longest_edge\": 5}}", "'size'");
    preprocessing_refused("{\"size\": 0}", "'size'");
    preprocessing_refused("{\"size\": {\"height\": 224, \"width\": 99999999}}", "'size'");
    preprocessing_refused("{\"crop_size\": [1]}", "'crop_size'");
    preprocessing_refused("{\"image_std\": [1, 0, 1]}", "'image_std' is not made of numbers other than 0");
    preprocessing_refused("{\"image_mean\": [1, 0]}", "'image_mean'");
    preprocessing_refused("{\"resample\": 9}", "'resample'");
    preprocessing_refused("{\"do_resize\": 1}", "'do_resize'");
    preprocessing_refused("{\"crop_pct\": 0}", "'crop_pct'");
    preprocessing_refused("{\"rescale_factor\": \"x\"}", "'rescale_factor'");
    preprocessing_refused("[]", "object");
    preprocessing_refused("{\n\"size\": }", "line 2");
    struct preprocessing config;
    struct error error = {0};
    assert_false(preprocessing_read(in_folder("nowhere.json"), &config, &error));
    assert_int_equal(error.code, ERROR_NOT_FOUND);
}

static void the_default_preprocessing_is_imagenets(void **state) {
    struct preprocessing config;
    preprocessing_default(224, 224, &config);
    steps(&config, 640, 480, 256, 224, 224, IMAGE_BILINEAR);
    preprocessing_default(299, 299, &config);
    steps(&config, 640, 480, 342, 299, 299, IMAGE_BILINEAR);
    preprocessing_default(320, 200, &config);
    steps(&config, 640, 480, 0, 320, 200, IMAGE_BILINEAR);
}

static void preprocessing_that_is_stated_elsewhere_is_followed(void **state) {
    struct preprocessing config;
    struct error error = {0};
    bool found;
    write_text("config.json",
               "{\"pretrained_cfg\": {\"input_size\": [3, 224, 224], \"interpolation\": \"bicubic\","
               " \"crop_pct\": 0.95, \"mean\": [0.5, 0.5, 0.5], \"std\": [0.5, 0.5, 0.5]}}");
    assert_true(preprocessing_read_timm(in_folder("config.json"), -1, -1, &config, &found, &error) && found);
    steps(&config, 640, 480, 235, 224, 224, IMAGE_BICUBIC);
    assert_true(config.mean[0] == 0.5);
    write_text("config.json", "{\"pretrained_cfg\": {\"crop_mode\": \"border\"}}");
    assert_false(preprocessing_read_timm(in_folder("config.json"), 224, 224, &config, &found, &error));
    assert_non_null(strstr(error.message, "'crop_mode'"));

    struct onnx_property properties[] = {{"Image.BitmapPixelFormat", "Bgr8"},
                                         {"Image.NominalPixelRange", "NominalRange_0_255"}};
    struct onnx_metadata metadata = {properties, 2};
    assert_true(preprocessing_read_metadata(&metadata, 8, 8, &config, &found, &error) && found);
    assert_true(config.flip_channels && !config.do_rescale && !config.do_normalize);
    properties[1].value = "Strange";
    assert_false(preprocessing_read_metadata(&metadata, 8, 8, &config, &found, &error));
    assert_non_null(strstr(error.message, "Image.NominalPixelRange"));

    write_text("preprocessor_config.json", "{\"transforms\": []}");
    assert_false(preprocessing_read(in_folder("preprocessor_config.json"), &config, &error));
    assert_non_null(strstr(error.message, "transforms"));
    unlink(in_folder("preprocessor_config.json"));
}

static void imagenets_classes_have_french_names(void **state) {
    struct arena *arena = arena_create();
    struct labels labels;
    struct error error = {0};
    write_text("config.json", "{}");
    assert_true(labels_load(folder, 1001, arena, &labels, &error));
    assert_int_equal(labels.imagenet_shift, 1);
    assert_int_equal(labels.language_count, 1);
    const char **french = labels.languages[0].names;
    assert_string_equal(labels.languages[0].code, "fr");
    assert_string_equal(french[0], "arrière-plan");
    assert_string_equal(french[1], "tanche");
    assert_string_equal(french[25], "chouette lapone");
    assert_string_equal(french[1000], "papier toilette");
    for (int i = 0; i < IMAGENET_CLASSES; i++) {
        assert_non_null(imagenet_labels_fr[i]);
        for (int j = 0; j < i; j++)
            if (strcmp(imagenet_labels_fr[i], imagenet_labels_fr[j]) == 0)
                fail_msg("classes %d and %d are both '%s'", j, i, imagenet_labels_fr[i]);
    }

    write_text("labels_fr.json", "[\"la tanche\"]"); /* the folder's own come first */
    assert_true(labels_load(folder, 1000, arena, &labels, &error));
    assert_int_equal(labels.language_count, 1);
    assert_string_equal(labels.languages[0].names[0], "la tanche");
    unlink(in_folder("labels_fr.json"));

    assert_true(labels_load(folder, 999, arena, &labels, &error)); /* others */
    assert_int_equal(labels.imagenet_shift, -1);
    assert_int_equal(labels.language_count, 0);
    arena_free(arena);
}

static void labels_are_short_and_have_languages(void **state) {
    struct arena *arena = arena_create();
    struct labels labels;
    struct error error = {0};
    write_text("config.json",
               "{\"id2label\": {\"0\": \"tabby, tabby cat\", \"1\": \"golden retriever\", \"7\": \"far\"},"
               " \"id2wnid\": {\"0\": \"n02123045\", \"1\": \"n02099601\"}}");
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
    write_text("labels_fr.json", "[[3]]");
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
    write_text("config.json", "{\"id2label\": [\"c\\u001b[31mt\", \"d\\u009bg\\n\", \"far\"]}");
    assert_true(labels_load(folder, 3, arena, &labels, &error));
    assert_string_equal(labels.names[0], "c [31mt");
    assert_string_equal(labels.names[1], "d  g ");

    write_text("config.json", "{\"id2label\": [\"cat\", \"dog\", \"far\"]}");
    assert_true(labels_load(folder, 2, arena, &labels, &error));
    assert_string_equal(labels.names[1], "dog");
    write_text("config.json", "{\"id2label\": [\"Beans,_green___rust\", \"Beans, green, healthy\"]}");
    assert_true(labels_load(folder, 2, arena, &labels, &error));
    assert_string_equal(labels.names[0], "Beans,_green___rust");
    assert_string_equal(labels.names[1], "Beans, green, healthy");
    assert_int_equal(labels_find(&labels, "Beans"), -1);
    write_text("config.json", "{\"id2label\": [\"crane, machine\", \"crane, bird\"],"
                              " \"id2wnid\": [\"n03126707\", \"n02012849\"]}");
    assert_true(labels_load(folder, 2, arena, &labels, &error));
    assert_string_equal(labels.names[0], "crane, machine");
    assert_string_equal(labels.names[1], "crane, bird");
    write_text("config.json", "{\"id2label\": [\"cat\", null]}");
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

static void names_of_models_are_plain(void **state) {
    const char *good[] = {"animals", "animals:int8", "resnet-152_v1.5", "A", "7:7"};
    const char *bad[] = {"",     ".",  "..", "a/b", "a b", "a\n", "é",     "a%2f",
                         "a\"b", ".a", "_a", "-a",  ":a",  "a:",  "a:b:c", "a:.b"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_true(model_name_valid(good[i], strlen(good[i])));
        assert_int_equal(model_folder_name_valid(good[i]), !strchr(good[i], ':'));
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_false(model_name_valid(bad[i], strlen(bad[i])));
        assert_false(model_folder_name_valid(bad[i]));
    }

    char lengthy[MODEL_NAME_BYTES];
    memset(lengthy, 'a', sizeof lengthy);
    assert_true(model_name_valid(lengthy, MODEL_NAME_PART));
    assert_false(model_name_valid(lengthy, MODEL_NAME_PART + 1));
    lengthy[MODEL_NAME_PART] = ':';
    assert_true(model_name_valid(lengthy, MODEL_NAME_BYTES - 1));
    assert_false(model_name_valid(lengthy, MODEL_NAME_BYTES));
    assert_false(model_name_valid("animals/x", 8));
    assert_true(model_name_valid("animals/x", 7));
}

/* ---- Photos to tensors ---- */

static const struct photo_input input_of_six = {
    .preprocessing = {.do_resize = true, .resize_width = 6, .resize_height = 5, .filter = IMAGE_BILINEAR},
    .dtype = DTYPE_F32,
    .batch = -1,
    .height = -1,
    .width = -1};

static struct prepared_photo prepare(const struct photo_input *input, const char *path) {
    struct prepared_photo photo;
    struct timing timing = {0};
    struct error error;
    size_t size;
    char *bytes = file_read(path, 1 << 20, &size, &error);
    assert_non_null(bytes);
    assert_true(photo_prepare(input, (const uint8_t *)bytes, size, &photo, &timing, &error));
    assert_true(timing.decode > 0 && timing.preprocess > 0 && timing.infer == 0);
    free(bytes);
    return photo;
}

static void photos_take_the_layout_and_type_of_the_network(void **state) {
    struct photo_input input = input_of_six;
    struct prepared_photo first = prepare(&input, "tests/fuzz/corpus/image/rgb.png");
    assert_true(first.width == 6 && first.height == 5 && first.bytes == 90 * sizeof(float));
    struct tensor tensor = photo_input_tensor(&input, 2, 6, 5, first.tensor);
    assert_true(tensor.shape.dims[1] == 3 && tensor.shape.dims[2] == 5 && tensor.shape.dims[3] == 6);

    input.channels_last = true;
    struct prepared_photo last = prepare(&input, "tests/fuzz/corpus/image/rgb.png");
    tensor = photo_input_tensor(&input, 2, 6, 5, last.tensor);
    assert_true(tensor.shape.dims[1] == 5 && tensor.shape.dims[2] == 6 && tensor.shape.dims[3] == 3);
    input.dtype = DTYPE_U8;
    struct prepared_photo bytes = prepare(&input, "tests/fuzz/corpus/image/rgb.png");
    assert_int_equal(bytes.bytes, 90);

    const float *planes = first.tensor, *pixels = last.tensor;
    for (int i = 0; i < 90; i++) {
        assert_true(planes[i] == pixels[i % 30 * 3 + i / 30]);
        assert_true(pixels[i] == ((const uint8_t *)bytes.tensor)[i]);
    }
    assert_false(photo_input_equal(&input, &input_of_six));
    free(first.tensor);
    free(last.tensor);
    free(bytes.tensor);
}

static void a_strip_that_becomes_too_large_is_refused(void **state) {
    struct photo_input input = input_of_six;
    struct prepared_photo photo = {0};
    struct timing timing = {0};
    struct error error;
    int width, height;
    size_t size;
    assert_true(photo_input_size(&input, &width, &height) && width == 6 && height == 5);
    input.preprocessing.resize_width = input.preprocessing.resize_height = 0;
    input.preprocessing.resize_short = 60000;
    assert_false(photo_input_size(&input, &width, &height));

    char *bytes = file_read("tests/fuzz/corpus/image/rgb.png", 1 << 20, &size, &error);
    assert_false(photo_prepare(&input, (const uint8_t *)bytes, size, &photo, &timing, &error));
    assert_int_equal(error.code, ERROR_INVALID);
    assert_non_null(strstr(error.message, "exceeds the size limit"));
    assert_null(photo.tensor);
    free(bytes);
}

/* ---- Outputs ---- */

static void the_best_scores_come_first_and_equal_ones_by_index(void **state) {
    const double scores[] = {1, 3, 2, 3, -1, 3, 0};
    int best[7];
    scores_find_best(scores, 7, 4, best);
    assert_true(best[0] == 1 && best[1] == 3 && best[2] == 5 && best[3] == 2);
    scores_find_best(scores, 7, 7, best);
    assert_true(best[4] == 0 && best[5] == 6 && best[6] == 4);
    scores_find_best(scores, 7, 1, best);
    assert_int_equal(best[0], 1);
}

static void scores_become_probabilities_once(void **state) {
    double logits[] = {1, 2, 3}, probabilities[] = {0.25, 0.5, 0.254}, wrong[] = {0.5, NAN, 1};
    assert_true(scores_to_probabilities(logits, 3, HEAD_BY_VALUES));
    assert_float_equal(logits[0] + logits[1] + logits[2], 1, 1e-9);
    assert_float_equal(logits[2] / logits[1], exp(1), 1e-9);
    assert_true(scores_to_probabilities(probabilities, 3, HEAD_BY_VALUES));
    assert_true(probabilities[0] == 0.25 && probabilities[2] == 0.254);
    assert_false(scores_to_probabilities(wrong, 3, HEAD_BY_VALUES));
    assert_true(wrong[0] == 0.5 && wrong[2] == 1);
    wrong[1] = INFINITY;
    assert_false(scores_to_probabilities(wrong, 3, HEAD_BY_VALUES));
}

static void heads_make_probabilities_of_their_own_kind(void **state) {
    double one[] = {-1.5}, many[] = {2, -1, -INFINITY}, done[] = {0.9, 0.8, 0.1},
           logs[] = {log(0.25), log(0.75)};
    double sums_to_one[] = {0.25, 0.75}, masked[] = {1, -INFINITY, 1}, nothing[] = {-INFINITY, -INFINITY};
    assert_true(scores_to_probabilities(one, 1, HEAD_SIGMOID));
    assert_float_equal(one[0], 0.182426, 1e-6);
    assert_true(scores_to_probabilities(many, 3, HEAD_SIGMOID));
    assert_float_equal(many[0], 0.880797, 1e-6);
    assert_true(many[2] == 0);
    assert_true(scores_to_probabilities(done, 3, HEAD_INDEPENDENT));
    assert_true(done[0] == 0.9 && done[1] == 0.8);
    assert_true(scores_to_probabilities(logs, 2, HEAD_LOG_PROBABILITIES));
    assert_float_equal(logs[1], 0.75, 1e-9);
    assert_true(scores_to_probabilities(sums_to_one, 2, HEAD_SOFTMAX));
    assert_float_equal(sums_to_one[1], 0.622459, 1e-6);
    assert_true(scores_to_probabilities(masked, 3, HEAD_SOFTMAX));
    assert_true(masked[1] == 0 && masked[0] == 0.5);
    assert_false(scores_to_probabilities(nothing, 2, HEAD_SOFTMAX));
    assert_false(scores_to_probabilities(one, 1, HEAD_NONE));
}

static void an_output_of_classes_is_told_by_its_shape(void **state) {
    const struct shape flat = {2, {-1, 10}}, ones = {4, {1, 10, 1, 1}}, map = {4, {1, 10, 7, 7}},
                       free_classes = {2, {-1, -1}}, vector = {1, {10}};
    assert_int_equal(output_class_count(&flat, DTYPE_F32), 10);
    assert_int_equal(output_class_count(&ones, DTYPE_F16), 10);
    assert_int_equal(output_class_count(&map, DTYPE_F32), 0);
    assert_int_equal(output_class_count(&free_classes, DTYPE_F32), -1);
    assert_int_equal(output_class_count(&vector, DTYPE_F32), 0);
    assert_int_equal(output_class_count(&flat, DTYPE_I64), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_of_models_are_plain),
        cmocka_unit_test(photos_take_the_layout_and_type_of_the_network),
        cmocka_unit_test(a_strip_that_becomes_too_large_is_refused),
        cmocka_unit_test(the_best_scores_come_first_and_equal_ones_by_index),
        cmocka_unit_test(scores_become_probabilities_once),
        cmocka_unit_test(heads_make_probabilities_of_their_own_kind),
        cmocka_unit_test(an_output_of_classes_is_told_by_its_shape),
        cmocka_unit_test(preprocessing_in_the_wild_is_understood),
        cmocka_unit_test(preprocessing_that_cannot_be_names_its_field),
        cmocka_unit_test(the_default_preprocessing_is_imagenets),
        cmocka_unit_test(preprocessing_that_is_stated_elsewhere_is_followed),
        cmocka_unit_test(imagenets_classes_have_french_names),
        cmocka_unit_test(labels_are_short_and_have_languages),
        cmocka_unit_test(networks_are_found_by_folder_file_and_variant),
        cmocka_unit_test(a_folder_says_how_large_each_of_its_networks_is),
        cmocka_unit_test(names_are_looked_up_in_the_roots),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
