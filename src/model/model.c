#include "model/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/limits.h"
#include "model/folder.h"
#include "model/internal.h"
#include "model/outputs.h"
#include "model/preprocessing.h"
#include "model/settings.h"

enum { USUAL_SIDE = 224 }; /* pixels, where the network takes any size */

/* The one input: [n, 3, h, w] or [n, h, w, 3]. */
static bool understand_input(struct model *model, struct error *error) {
    char text[SHAPE_TEXT];
    if (engine_input_count(model->engine) != 1)
        return error_set(error, ERROR_MODEL, "%s: an image classifier has one input, this network has %d",
                         model->path, engine_input_count(model->engine));

    const struct engine_port *input = engine_input(model->engine, 0);
    const int64_t *dims = input->shape.dims;
    bool first = input->shape.rank == 4 && (dims[1] == 3 || (dims[1] < 0 && dims[3] != 3));
    bool last = input->shape.rank == 4 && !first && dims[3] == 3;

    if (!first && !last)
        return error_set(error, ERROR_MODEL, "%s: input '%s' is %s; a photo needs [n, 3, height, width]",
                         model->path, input->name, shape_format(&input->shape, text, sizeof text));
    if (!dtype_is_float(input->dtype) && input->dtype != DTYPE_U8)
        return error_set(error, ERROR_MODEL, "%s: input '%s' takes %s; a photo needs a float type or uint8",
                         model->path, input->name, dtype_name(input->dtype));

    model->input.dtype = input->dtype;
    model->input.channels_last = last;
    model->input.batch = dims[0];
    model->input.height = dims[last ? 1 : 2];
    model->input.width = dims[last ? 2 : 3];
    return true;
}

int model_length(const struct model *model) {
    return model->length;
}

/* Preprocessing must give the size that the input takes; where it keeps the photo's aspect, a crop is added.
 */
static bool fit_preprocessing(struct model *model, const char *path, struct error *error) {
    struct photo_input *input = &model->input;
    struct preprocessing *config = &input->preprocessing;
    if (input->dtype == DTYPE_U8 && (config->do_rescale || config->do_normalize))
        return error_set(error, ERROR_MODEL, "%s: '%s' makes fractions, but the network takes uint8", path,
                         config->do_rescale ? "do_rescale" : "do_normalize");
    if (input->height < 1 || input->width < 1)
        return true;

    if (!config->do_center_crop && (!config->do_resize || config->resize_short > 0)) {
        config->do_center_crop = true;
        config->crop_width = (int)input->width;
        config->crop_height = (int)input->height;
    }

    int width, height;
    photo_input_size(input, &width, &height);
    if (width == input->width && height == input->height)
        return true;

    return error_set(error, ERROR_MODEL, "%s: '%s' gives %dx%d pixels, but the network takes %lldx%lld", path,
                     config->do_center_crop ? "crop_size" : "size", width, height, (long long)input->width,
                     (long long)input->height);
}

/* Preprocessing of another file than preprocessor_config.json, where there is one. */
static bool read_stated(struct model *model, const char *folder, struct error *error) {
    struct photo_input *input = &model->input;
    const char *path = arena_printf(model->arena, "%s/config.json", folder);
    bool found = false;
    int width = input->width > 0 ? (int)input->width : USUAL_SIDE;
    int height = input->height > 0 ? (int)input->height : USUAL_SIDE;

    if (!path)
        return error_set(error, ERROR_MEMORY, "not enough memory for a model");

    if (!preprocessing_read_timm(path, input->width, input->height, &input->preprocessing, &found, error))
        return false;
    if (found) {
        model->preprocessing_source = "config.json: pretrained_cfg";
        return true;
    }

    if (!preprocessing_read_metadata(&model->metadata, width, height, &input->preprocessing, &found, error))
        return error_prefix(error, "%s", model->path);
    if (found)
        model->preprocessing_source = "the network's metadata: Image.*";
    return true;
}

static bool load_preprocessing(struct model *model, const char *folder, struct error *error) {
    struct photo_input *input = &model->input;
    const char *path = arena_printf(model->arena, "%s/preprocessor_config.json", folder);
    if (!path)
        return error_set(error, ERROR_MEMORY, "not enough memory for a model");

    if (preprocessing_read(path, &input->preprocessing, error)) {
        model->preprocessing_source = "preprocessor_config.json";
        return fit_preprocessing(model, path, error);
    }
    if (error->code != ERROR_NOT_FOUND)
        return false;
    if (!read_stated(model, folder, error))
        return false;
    if (model->preprocessing_source)
        return fit_preprocessing(model, model->preprocessing_source, error);

    if (input->height > LIMIT_IMAGE_SIDE || input->width > LIMIT_IMAGE_SIDE)
        return error_set(error, ERROR_MODEL, "%s: the input is larger than any photo", model->path);

    preprocessing_default(input->width > 0 ? (int)input->width : USUAL_SIDE,
                          input->height > 0 ? (int)input->height : USUAL_SIDE, &input->preprocessing);
    model->preprocessing_source = "assumed: ImageNet's";

    /* A network that takes bytes scales them itself. */
    input->preprocessing.do_rescale = input->preprocessing.do_normalize = input->dtype != DTYPE_U8;
    return true;
}

/* Where shapes are computed, the plan for a photo has the number of classes. The engine keeps the plan for
 * the first photo. */
static bool plan_classes(struct model *model, int *ret_classes, struct error *error) {
    int width, height;
    photo_input_size(&model->input, &width, &height);
    struct tensor input = photo_input_tensor(&model->input, model->input.batch > 0 ? model->input.batch : 1,
                                             width, height, NULL);
    struct engine_context *context = engine_context_create(model->engine, error);
    char text[SHAPE_TEXT];
    bool done = false;

    if (!context || !engine_prepare(context, &input, 1, error)) {
        error_prefix(error, "%s", model->path);
        goto out;
    }

    struct tensor output = engine_prepared_output(context, model->output);
    *ret_classes = output_class_count(&output.shape, output.dtype);
    done = *ret_classes > 0 ||
           error_set(error, ERROR_MODEL, "%s: its output is %s; a classifier's is [n, classes]", model->path,
                     shape_format(&output.shape, text, sizeof text));

out:
    engine_context_free(context);
    return done;
}

/* The network has the form of one that classifies photos. *ret_classes < 0: its plans tell how many. */
static bool find_form(struct model *model, int *ret_classes, struct error *error) {
    return understand_input(model, error) &&
           (outputs_find_scores(model->engine, &model->output, ret_classes, error) ||
            error_prefix(error, "%s", model->path));
}

/* The model's card, for people. One that cannot be read is left out: nothing depends on it. */
static void load_card(struct model *model, const char *folder) {
    struct error ignored;
    size_t size;
    const char *path = arena_printf(model->arena, "%s/README.md", folder);
    cleanup(freep) char *text = path ? file_read(path, LIMIT_CARD_BYTES, &size, &ignored) : NULL;
    if (text)
        model->card = arena_copy_string(model->arena, text, size);
}

/* What its folder says of scores and classes. */
static bool understand_scores(struct model *model, const char *folder, int classes, struct error *error) {
    return head_find(folder, &model->metadata, model->engine, model->output, classes, model->arena,
                     &model->head, error) &&
           labels_load(folder, classes, model->arena, &model->labels, error) &&
           rejection_load(folder, classes, model->arena, &model->rejection, error);
}

/* It takes no photos, and this is why. */
static bool note_reason(struct model *model, const struct error *reason, struct error *error) {
    model->not_a_photo = *reason;
    model->input = (struct photo_input){.batch = -1};
    model->output = -1;
    model->labels = (struct labels){.source = "none: it takes no photos"};
    model->preprocessing_source = "none: it takes no photos";
    model->head = (struct head){HEAD_NONE, "none", arena_printf(model->arena, "%s", reason->message)};
    return model->head.reason || error_set(error, ERROR_MEMORY, "not enough memory for a model");
}

/* The network is what it is: another try finds the same. Not so where memory, a file or a library failed. */
static bool is_of_the_network(const struct error *problem) {
    return problem->code == ERROR_MODEL || problem->code == ERROR_INVALID;
}

/* What the network's photos and scores mean; with any_network, or why it takes none. A folder that says what
 * cannot be followed is an error either way. */
static bool understand(struct model *model, const char *folder, bool any_network, struct error *error) {
    struct error problem;
    int classes = 0;
    bool has_form = find_form(model, &classes, &problem);
    if (has_form && !load_preprocessing(model, folder, error))
        return false;
    if (has_form && classes < 0)
        has_form = plan_classes(model, &classes, &problem);
    load_card(model, folder);
    if (has_form)
        return understand_scores(model, folder, classes, error);

    if (any_network && is_of_the_network(&problem))
        return note_reason(model, &problem, error);
    *error = problem;
    return false;
}

/* The one place that decides in which precision a model runs. bfloat16 is enough to tell classes apart;
 * numbers that are used as such stay in float32, unless somebody asks for less. */
static bool settle_precision(struct model *model, struct engine_options *options, struct error *error) {
    bool is_classifier = model->not_a_photo.code == ERROR_NONE && model->head.kind != HEAD_NONE;
    if (is_classifier || options->precision != PRECISION_AUTO ||
        engine_precision(model->engine) != PRECISION_BF16 || engine_leave_bf16(model->engine, error))
        return true;

    engine_free(model->engine);
    options->no_bf16 = true;
    model->engine = engine_load(model->path, options, error);
    return model->engine != NULL;
}

static bool load_parts(struct model *model, const char *folder, const struct model_options *given,
                       struct error *error) {
    struct engine_options options = given->engine;
    struct model_settings settings;
    if (!model_settings_read(folder, MODEL_NETWORK, &settings, error) ||
        !onnx_metadata_read(model->path, model->arena, &model->metadata, error))
        return false;

    if (options.precision == PRECISION_AUTO)
        options.precision = settings.precision;
    if (!options.threads)
        options.threads = settings.threads;
    model->length = settings.length;
    model->folder = arena_printf(model->arena, "%s", folder);
    if (!model->folder)
        return error_set(error, ERROR_MEMORY, "not enough memory for a model");
    model->engine = engine_load(model->path, &options, error);
    return model->engine && understand(model, folder, given->any_network, error) &&
           settle_precision(model, &options, error);
}

struct model *model_load(const char *path, const struct model_options *options, struct error *error) {
    struct model_files files;
    struct model *model = NULL;
    if (!model_files_find(path, options->variant, &files, error))
        return NULL;
    if (!model_files_check(&files, MODEL_NETWORK, error))
        goto fail;

    model = calloc(1, sizeof *model);
    if (!model || !(model->arena = arena_create())) {
        error_set(error, ERROR_MEMORY, "%s: not enough memory for a model", path);
        goto fail;
    }

    model->name = steal_pointer(&files.name);
    model->path = steal_pointer(&files.network);
    if (!load_parts(model, files.folder, options, error))
        goto fail;

    model_files_release(&files);
    return model;

fail:
    model_files_release(&files);
    model_free(model);
    return NULL;
}

void model_free(struct model *model) {
    if (!model)
        return;

    engine_free(model->engine);
    arena_free(model->arena);
    free(model->name);
    free(model->path);
    free(model);
}

const char *model_name(const struct model *model) {
    return model->name;
}

const char *model_path(const struct model *model) {
    return model->path;
}

struct engine *model_engine(const struct model *model) {
    return model->engine;
}

bool model_takes_photos(const struct model *model, struct error *error) {
    if (model->not_a_photo.code == ERROR_NONE)
        return true;

    *error = model->not_a_photo;
    return false;
}

const struct photo_input *model_input(const struct model *model) {
    return &model->input;
}

bool model_picture_input(struct model *model, struct photo_input *ret, const char **ret_source,
                         struct error *error) {
    struct model trial = *model;
    struct photo_input *input = &trial.input;
    trial.preprocessing_source = NULL;
    if (!understand_input(&trial, error) || !load_preprocessing(&trial, model->folder, error))
        return false;

    if (strncmp(trial.preprocessing_source, "assumed", 7) == 0) {
        bool fixed = input->width > 0 && input->height > 0, bytes = input->dtype == DTYPE_U8;
        input->preprocessing = (struct preprocessing){
            .do_resize = fixed,
            .resize_width = fixed ? (int)input->width : 0,
            .resize_height = fixed ? (int)input->height : 0,
            .filter = IMAGE_BICUBIC,
            .do_rescale = !bytes,
            .rescale_factor = 1.0 / 255,
        };
        trial.preprocessing_source =
            bytes ? "assumed: the whole photo, values 0 to 255" : "assumed: the whole photo, values 0 to 1";
    }

    *ret = *input;
    *ret_source = trial.preprocessing_source;
    return true;
}

int model_output(const struct model *model) {
    return model->output;
}

int model_class_count(const struct model *model) {
    return model->labels.count;
}

const char *model_label(const struct model *model, int index, const char *language) {
    for (int i = 0; language && i < model->labels.language_count; i++)
        if (strcmp(model->labels.languages[i].code, language) == 0 && model->labels.languages[i].names[index])
            return model->labels.languages[i].names[index];
    return model->labels.names[index];
}

const char *model_class_identity(const struct model *model, int index, char ret[24]) {
    const struct labels *labels = &model->labels;
    if (labels->imagenet_shift >= 0 && index >= labels->imagenet_shift)
        snprintf(ret, 24, "imagenet:%d", index - labels->imagenet_shift);
    else if (labels->imagenet[index])
        snprintf(ret, 24, "imagenet:%.14s", labels->imagenet[index]);
    else if (labels->wnids[index])
        snprintf(ret, 24, "%.23s", labels->wnids[index]);
    else
        return NULL;
    return ret;
}

const char *model_card(const struct model *model) {
    return model->card;
}

bool model_has_rejection(const struct model *model) {
    return model->rejection.weights != NULL;
}

int model_class_find(const struct model *model, const char *name) {
    return labels_find(&model->labels, name);
}

bool model_check_classifier(const struct model *model, struct error *error) {
    if (model->head.kind != HEAD_NONE)
        return true;
    return error_set(
        error, ERROR_INVALID,
        "the model \"%s\" is not a classifier (%s): ask for its tensors, at POST /v2/models/%s/infer",
        model->name, model->head.reason, model->name);
}

const char *model_knows_name(enum model_knows knows) {
    static const char *const names[] = {
        [MODEL_KNOWS_NOT] = "no",
        [MODEL_KNOWS_PERHAPS] = "perhaps",
        [MODEL_KNOWS] = "yes",
    };
    return names[knows];
}

enum head_kind model_head(const struct model *model) {
    return model->head.kind;
}

void model_describe(const struct model *model, struct model_description *ret) {
    *ret = (struct model_description){
        .preprocessing = model->preprocessing_source,
        .labels = model->labels.source,
        .head = model->head.kind == HEAD_NONE ? model->head.reason : head_kind_name(model->head.kind),
        .head_source = model->head.source,
    };
}
