/* What a backend has where the model is a language model: language/ is its service. */
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "model/settings.h"
#include "server/backend/private.h"

/* What guichet.json says counts where no option was given. */
static bool read_settings(const struct backend *backend, const struct model_files *files,
                          struct language_options *options, struct error *error) {
    const struct backend_options *given = &backend->options;
    struct model_settings settings;
    if (!model_settings_read(files->folder, MODEL_LANGUAGE, &settings, error))
        return false;

    enum precision precision = given->precision != PRECISION_AUTO ? given->precision : settings.precision;
    options->sizes = llm_sizes_of(given->context ? given->context : settings.context,
                                  given->parallel ? given->parallel : settings.parallel,
                                  given->kv ? given->kv : settings.kv, precision == PRECISION_F32);
    return true;
}

static bool start(struct backend *backend, struct error *error) {
    struct language_options options = {
        .name = backend->name,
        .threads = backend->options.threads,
        .apart = backend->options.prefixes_apart,
        .waiting = backend->options.queue_limit,
        .timeout_ms = backend->options.timeout_ms,
        .workers = backend->workers,
        .metrics = backend->metrics,
    };
    struct model_files files;
    if (!model_files_find(backend->model_path, backend->variant, &files, error))
        return false;

    options.path = files.network;
    if (read_settings(backend, &files, &options, error))
        backend->language = language_create(&options, error);
    model_files_release(&files);
    return backend->language;
}

static bool wait_ready(struct backend *backend, struct error *error) {
    if (!language_wait_ready(backend->language, error))
        return false;
    text_copy(backend->description, sizeof backend->description, language_description(backend->language));
    return true;
}

static bool is_ready(const struct backend *backend) {
    return language_is_ready(backend->language);
}

static void find_load(const struct backend *backend, struct service_load *ret) {
    ret->kind = "language";
    ret->queued_tokens = language_queued_tokens(backend->language);
}

static void describe(const struct backend *backend, struct model_status *ret) {
    text_copy(ret->meaning.kind, sizeof ret->meaning.kind, "language");
    text_copy(ret->precision, sizeof ret->precision, language_precision_name(backend->language));
}

static void update_metrics(struct backend *backend) {
    language_update_metrics(backend->language);
}

static void finish(struct backend *backend) {
    language_free(backend->language);
}

static void release(struct backend *backend) {
}

const struct backend_kind backend_language_model = {
    .start = start,
    .wait_ready = wait_ready,
    .is_ready = is_ready,
    .describe = describe,
    .find_load = find_load,
    .update_metrics = update_metrics,
    .finish = finish,
    .release = release,
};
