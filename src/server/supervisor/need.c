/* What a language model takes, known before it starts: its files say it. On the supervisor's thread. */
#include <string.h>

#include "llm/memory.h"
#include "model/find.h"
#include "model/settings.h"
#include "server/supervisor/supervisor_private.h"

/* What its process will be told: options, else guichet.json. */
static bool read_sizes(const struct supervisor_options *options, const char *folder, struct llm_sizes *ret,
                       struct error *error) {
    struct model_settings settings;
    if (!model_settings_read(folder, MODEL_LANGUAGE, &settings, error))
        return false;

    enum precision precision = options->precision != PRECISION_AUTO ? options->precision : settings.precision;
    *ret = llm_sizes_of(options->context ? options->context : settings.context,
                        options->parallel ? options->parallel : settings.parallel,
                        options->kv ? options->kv : settings.kv, precision == PRECISION_F32);
    return true;
}

static bool find_need(const struct supervisor *supervisor, const struct supervised *model, int64_t *ret,
                      struct error *error) {
    struct llm_sizes sizes;
    struct llm_memory memory;
    struct model_files files;
    if (!model_find_files(model->path, &files, error))
        return false;

    bool known = read_sizes(supervisor->options, files.folder, &sizes, error) &&
                 llm_memory_find(files.network, &sizes, &memory, error);
    model_files_release(&files);
    if (known)
        *ret = (int64_t)(memory.weights + memory.cache);
    return known &&
           (supervisor->options->memory == 0 ||
            llm_memory_check(&memory, &sizes, (uint64_t)supervisor->options->memory, "--memory", error));
}

bool supervised_find_need(const struct supervisor *supervisor, struct supervised *model,
                          struct error *error) {
    if (strcmp(model->meaning.kind, "language") != 0)
        return true;

    model->need = 0;
    /* Where it is not known, the process itself says what is wrong with its files. */
    return find_need(supervisor, model, &model->need, error) || model->need == 0;
}
