/* The messages of a conversation, as OpenAI's clients send them, in the form that chat templates know. */
#pragma once
#include <jansson.h>

#include "base/error.h"

/* A new array: contents as one text, arguments of tool calls as objects. NULL with ERROR_INVALID, which names
 * the message. */
json_t *messages_read(const json_t *messages, struct error *error);
