/* Any bytes as a chat template and, behind a NUL, a conversation in JSON (without one: a fixed one). What
 * comes out must be UTF-8, in segments that cover it. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "chat/template.h"
#include "chat/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static const char fixed[] = "{\"messages\": [{\"role\": \"system\", \"content\": \"Be brief.\"}, {\"role\": "
                            "\"user\", \"content\": \" H\303\251\\n\"},"
                            " {\"role\": \"assistant\", \"content\": null, \"tool_calls\": [{\"function\": "
                            "{\"name\": \"f\", \"arguments\": {\"x\": 1.5}}}]}],"
                            " \"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"f\", "
                            "\"parameters\": {\"x\": [1, true, \"a<b\"]}}}],"
                            " \"add_generation_prompt\": true}";

static void check_prompt(const struct chat_prompt *prompt) {
    size_t end = 0;
    for (size_t i = 0; i < prompt->segment_count; i++) {
        if (prompt->segments[i].end <= end ||
            (i && prompt->segments[i].from_conversation == prompt->segments[i - 1].from_conversation))
            abort();
        end = prompt->segments[i].end;
    }
    if (end != prompt->size || !jinja_utf8_valid(prompt->text, prompt->size))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    struct error error = {0};
    struct memory_charge charge = {0};
    const char *text = (const char *)bytes, *nul = size ? memchr(bytes, 0, size) : NULL;
    size_t length = nul ? (size_t)(nul - text) : size;
    struct chat_template *chat = chat_template_create(size ? text : "", length, &error);
    json_t *json = nul ? json_parse(nul + 1, size - length - 1, NULL, &charge, &error)
                       : json_parse(fixed, sizeof fixed - 1, NULL, &charge, &error);
    struct chat_variables variables = {.conversation = json, .today = {.tm_year = 124, .tm_mday = 1}};
    struct chat_prompt prompt;

    if (chat && json_is_object(json) && chat_template_render(chat, &variables, &prompt, &error)) {
        check_prompt(&prompt);
        chat_prompt_release(&prompt);
    }
    json_decref(json);
    memory_charge_release(&charge);
    chat_template_free(chat);
    return 0;
}
