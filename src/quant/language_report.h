/* The report on a language model in fewer bits: JSON, and a page in English and French. */
#pragma once
#include <jansson.h>

#include "base/buffer.h"
#include "quant/language.h"
#include "quant/language_measure.h"

struct language_report {
    const struct language_comparison *comparison;
    const struct language_result *result; /* what became of each tensor; NULL: not by this run */
    const char *target;                   /* "Q4_K_M"; NULL with result */
    int choosers;                         /* windows of text that chose; 0: none did */
};

/* NULL when memory is out. */
json_t *language_report_json(const struct language_report *report);
/* False when memory is out. */
bool language_report_html(const struct language_report *report, struct buffer *ret);
