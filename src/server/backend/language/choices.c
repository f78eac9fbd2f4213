/* The answers to a request: submitted on a worker, written on the scheduler's thread. */
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/limits.h"
#include "server/backend/language/call.h"

/* --- Tokens as they come: the scheduler's thread ---------------------------------------------------------
 */

static int64_t count_characters(const struct buffer *text) {
    int64_t count = 0;
    for (size_t i = 0; text->bytes && i < text->size; i++)
        count += ((unsigned char)text->bytes[i] & 0xc0) != 0x80;
    return count;
}

/* What the parser of calls finds. */
static void find_text(void *data, const char *text, size_t size) {
    struct choice *choice = data;
    choice->failed |= !buffer_append(&choice->part.content, text, size);
}

static void find_call(void *data, size_t index, const char *name) {
    struct choice *choice = data;
    uint8_t bytes[12];
    char id[32] = "call_";
    randombytes_buf(bytes, sizeof bytes);
    sodium_bin2hex(id + 5, sizeof id - 5, bytes, sizeof bytes);
    choice->failed |= !answer_part_add_call(&choice->part, index, id, name);
}

static void find_arguments(void *data, size_t index, const char *text, size_t size) {
    struct choice *choice = data;
    choice->failed |= !answer_part_add_arguments(&choice->part, index, text, size);
}

/* With the lock. Text of the answer itself. */
static void add_answer(struct choice *choice, const struct buffer *text) {
    if (text->size == 0)
        return;
    if (choice->calls)
        choice->failed |= !tool_parser_feed(choice->calls, text->bytes, text->size);
    else
        find_text(choice, text->bytes, text->size);
}

/* With the lock. `told`: the next part of what the model writes. */
static void add_text(struct choice *choice, const struct buffer *told) {
    struct answer_part *part = &choice->part;
    struct buffer answer = {0};
    if (told->size == 0)
        return;

    if (choice->thinks)
        thought_add(&choice->thought, told->bytes, told->size, &part->thoughts, &answer);
    add_answer(choice, choice->thinks ? &answer : told);
    choice->failed |= part->thoughts.failed || answer.failed;
    buffer_release(&answer);
}

/* Is it the answer, and no thought, that comes next? */
static bool is_constrained(const struct choice *choice) {
    return choice->constraint && !(choice->thinks && choice->thought.state == THOUGHT_HERE);
}

/* By one of the scheduler's team. */
static void constrain(void *context, float *logits) {
    struct choice *choice = context;
    int count;
    const int32_t *ends = dialogue_end_tokens(choice->call->language->dialogue, &count);
    if (is_constrained(choice))
        choice->is_stuck = !constraint_mask(choice->constraint, choice->call->trie, ends, count, logits);
}

/* False: it ends with this token. */
static bool follow_constraint(struct choice *choice, const struct buffer *word) {
    return !choice->constraint ||
           (constraint_advance(choice->constraint, word->bytes ? word->bytes : "", word->size) &&
            !constraint_must_end(choice->constraint));
}

static bool take(void *context, const struct generated_token *token) {
    struct choice *choice = context;
    struct call *call = choice->call;
    const struct tokenizer *tokenizer = llm_model_tokenizer(call->language->model);
    struct buffer word = {0}, told = {0};

    if (!choice->first_ns) {
        choice->first_ns = clock_ns();
        language_counts_first(&call->language->counts,
                              (double)(choice->first_ns - call->request->started_ns) / 1e9);
    }
    bool constrained = is_constrained(choice);
    if (choice->is_stuck || ((constrained || !call->fields.goes_on) &&
                             dialogue_ends(call->language->dialogue, token->chance.token)))
        return false;

    dialogue_decode(call->language->dialogue, token->chance.token, &word);
    bool goes_on = answer_text_add(&choice->text, word.bytes ? word.bytes : "", word.size, &told);
    choice->failed |= word.failed || told.failed;
    goes_on = (!constrained || follow_constraint(choice, &word)) && goes_on;

    pthread_mutex_lock(&call->lock);
    if (call->fields.top >= 0)
        answer_part_add_chances(&choice->part, call->fields.route, tokenizer, token, choice->characters);
    add_text(choice, &told);
    if (call->fields.stream && !answer_part_is_empty(&choice->part))
        call_post(call);
    else
        pthread_mutex_unlock(&call->lock);

    choice->characters += count_characters(&word);
    buffer_release(&word);
    buffer_release(&told);
    return goes_on && !choice->failed;
}

/* With the lock. */
static void tell_rest(struct choice *choice) {
    struct buffer told = {0};
    answer_text_end(&choice->text, &told);
    add_text(choice, &told);
    told.size = 0;
    if (choice->thinks)
        thought_end(&choice->thought, &choice->part.thoughts, &told);
    add_answer(choice, &told);
    if (choice->calls)
        choice->failed |= !tool_parser_finish(choice->calls);
    buffer_release(&told);
}

static void done(void *context, enum generation_end end, const struct error *error) {
    struct choice *choice = context;
    struct call *call = choice->call;
    static const struct error no_memory = {ERROR_MEMORY, "not enough memory for an answer"},
                              ended = {ERROR_UNAVAILABLE, "the service is ending: try again soon"},
                              stuck = {ERROR_INTERNAL,
                                       "the model has no token that its answer may go on with"};
    const struct error *failure = choice->failed                ? &no_memory
                                  : choice->is_stuck            ? &stuck
                                  : end == GENERATION_CANCELLED ? &ended
                                                                : error;

    language_counts_end(&call->language->counts, &choice->generation, (double)choice->first_ns);
    pthread_mutex_lock(&call->lock);
    if (failure && call->failure.code == ERROR_NONE)
        call->failure = *failure;
    if (!failure)
        tell_rest(choice);
    choice->finish = end == GENERATION_LENGTH                                ? "length"
                     : choice->calls && tool_parser_calls(choice->calls) > 0 ? "tool_calls"
                                                                             : "stop";
    call->unfinished--;
    for (int i = 0; failure && i < call->choice_count; i++) /* one that fails ends all */
        atomic_store(&call->choices[i].generation.cancelled, true);
    call_post(call);
}

/* --- Submission ------------------------------------------------------------------------------------------
 */

static bool find_seed(struct language_fields *fields, struct error *error) {
    uint64_t *seed = &fields->sampling.seed;
    return fields->has_seed || getrandom(seed, sizeof *seed, 0) == sizeof *seed ||
           error_set(error, ERROR_IO, "the system gives no random numbers: send a \"seed\"");
}

static bool init_constraint(struct call *call, struct choice *choice, struct error *error) {
    if (!call->fields.constraint)
        return true;
    call->trie = language_trie(call->language, error);
    if (!call->trie)
        return false;

    choice->constraint = constraint_state_create(call->fields.constraint);
    choice->generation.constrain = constrain;
    return choice->constraint || error_set(error, ERROR_MEMORY, "not enough memory for a constraint");
}

static bool init_calls(struct call *call, struct choice *choice, struct error *error) {
    const struct tool_events events = {choice, find_text, find_call, find_arguments};
    if (!call->fields.tools)
        return true;
    choice->calls = tool_parser_create(dialogue_tools(call->language->dialogue), &events);
    return choice->calls || error_set(error, ERROR_MEMORY, "not enough memory for calls of tools");
}

static bool init_choice(struct call *call, struct choice *choice, int index, struct error *error) {
    struct language *language = call->language;
    const struct language_fields *fields = &call->fields;
    const struct token_list *prompt = &call->prompts[index / fields->n];
    int64_t room = language->options.sizes.context - (int64_t)prompt->count;
    struct sampler_options sampling = fields->sampling;

    sampling.seed += (uint64_t)(index % fields->n); /* each answer to one prompt is another one */
    choice->call = call;
    choice->index = index;
    choice->text = (struct answer_text){.stops = fields->stops, .stop_count = fields->stop_count};
    choice->thinks = fields->route == LANGUAGE_CHAT && dialogue_thinks(language->dialogue);
    choice->thought.state = call->prompt_thinks ? THOUGHT_HERE : THOUGHT_MAY_COME;
    choice->generation = (struct generation){
        .prompt = prompt->ids,
        .prompt_count = prompt->count,
        .most = fields->most > 0 ? fields->most : room,
        .sampler = sampler_create(&sampling, llm_model_vocabulary(language->model), error),
        .biases = fields->biases,
        .bias_count = fields->bias_count,
        .top = fields->top,
        .is_apart = fields->is_apart,
        .scope = call->scope,
        .client = call->client,
        .expires_ns = call->request->started_ns + (int64_t)language->options.timeout_ms * 1000000,
        .take = take,
        .done = done,
        .context = choice,
    };
    return choice->generation.sampler && init_constraint(call, choice, error) &&
           init_calls(call, choice, error);
}

/* Tools that the model can be told of, and what follows where it must call one. */
static bool prepare_tools(struct call *call, struct error *error) {
    struct language_fields *fields = &call->fields;
    const struct tool_format *format = dialogue_tools(call->language->dialogue);
    if (!fields->tools)
        return true;
    if (!format)
        return error_set(
            error, ERROR_INVALID,
            "\"tools\": the chat template of this model has no calls of tools, or writes them in a way "
            "that is not supported");
    if (fields->must_call)
        fields->constraint = constraint_create_tools(format, (json_t *)fields->tools, fields->must_call_name,
                                                     !fields->calls_one, error);
    return !fields->must_call || fields->constraint;
}

bool call_submit(struct call *call, struct error *error) {
    int count = (int)call->prompt_count * call->fields.n;
    struct generation *generations[LIMIT_ANSWERS];
    if (count > LIMIT_ANSWERS)
        return error_set(error, ERROR_INVALID, "%d answers are asked for (n); at most %d can be", count,
                         LIMIT_ANSWERS);
    struct choice *choices = calloc((size_t)count, sizeof *choices);
    if (!choices)
        return error_set(error, ERROR_MEMORY, "not enough memory for %d answers", count);

    bool done = prepare_tools(call, error) && find_seed(&call->fields, error);
    for (int i = 0; done && i < count; i++) {
        done = init_choice(call, &choices[i], i, error);
        generations[i] = &choices[i].generation;
    }

    pthread_mutex_lock(&call->lock);
    call->choices = choices;
    call->choice_count = count;
    for (int i = 0; call->cancelled && i < count; i++)
        atomic_store(&choices[i].generation.cancelled, true);
    done = done && scheduler_submit(call->language->scheduler, generations, count, error);
    call->unfinished = done ? count : 0;
    if (done)
        call_post(call); /* from now on it may end, and be freed */
    else
        pthread_mutex_unlock(&call->lock);
    return done;
}

void call_free_choices(struct call *call) {
    for (int i = 0; i < call->choice_count; i++) {
        struct choice *choice = &call->choices[i];
        sampler_free(choice->generation.sampler);
        constraint_state_free(choice->constraint);
        tool_parser_free(choice->calls);
        answer_text_release(&choice->text);
        thought_release(&choice->thought);
        answer_part_release(&choice->part);
    }
    free(call->choices);
}
