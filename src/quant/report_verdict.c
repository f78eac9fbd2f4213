/* One sentence of advice on a network in 8-bit integers. */
#include <math.h>
#include <stdio.h>

#include "quant/report.h"

/* Shares of equal predictions that are hardly noticed, and that are; 8-bit networks usually have 0.98. */
#define GOOD_SHARE 0.97
#define BAD_SHARE 0.93
#define GOOD_DIVERGENCE 0.02
#define BAD_DIVERGENCE 0.1

bool report_target_is_met(const struct report *report) {
    return report->quant && report->same.low >= 1 - report->options->max_loss / 100;
}

const char *report_judge(const struct report *report, char *ret_english, char *ret_french, size_t size) {
    double part =
        (double)report->sides[1].bytes / (double)(report->sides[0].bytes ? report->sides[0].bytes : 1);
    bool smaller = part<0.9, faster = report->speedup.low> 1.02, slower = report->speedup.value < 0.98;
    bool bad = report->same.high < BAD_SHARE || report->divergence.low > BAD_DIVERGENCE,
         good = report->same.low >= GOOD_SHARE && report->divergence.high <= GOOD_DIVERGENCE,
         unsure = !bad && report->same.high >= GOOD_SHARE && report->same.low < GOOD_SHARE &&
                  report->divergence.value <= GOOD_DIVERGENCE;

    if (!smaller && !faster) {
        snprintf(ret_english, size, "Don't: it is neither smaller nor faster than what you run today.");
        snprintf(ret_french, size,
                 "Non : il n’est ni plus petit ni plus rapide que ce qui tourne aujourd’hui.");
        return "leave";
    }
    if (bad) {
        snprintf(ret_english, size, "Don't: too many predictions change (95 %% confidence).");
        snprintf(ret_french, size, "Non : trop de prédictions changent (confiance 95 %%).");
        return "leave";
    }
    if (slower) {
        snprintf(ret_english, size,
                 "Take it only if the size matters: it is slower than the original as it runs today (%.2f "
                 "times the "
                 "speed).",
                 report->speedup.value);
        snprintf(ret_french, size,
                 "Seulement si la taille compte : il est plus lent que l’original tel qu’il tourne "
                 "aujourd’hui (%.2f fois la "
                 "vitesse).",
                 report->speedup.value);
        return "maybe";
    }
    if (unsure) {
        snprintf(ret_english, size, "Perhaps: %d photos are too few to be certain; measure with more.",
                 report->count);
        snprintf(ret_french, size,
                 "Peut-être : %d photos ne suffisent pas pour en être sûr ; mesurez-en davantage.",
                 report->count);
        return "maybe";
    }
    if (!good) {
        snprintf(ret_english, size, "Take it if you need the %s: some predictions change (95 %% confidence).",
                 faster ? "speed" : "space");
        snprintf(ret_french, size,
                 "Prenez-le s’il vous faut %s : quelques prédictions changent (confiance 95 %%).",
                 faster ? "la vitesse" : "la place");
        return "maybe";
    }
    snprintf(ret_english, size,
             "Take it: %.0f %% of the size%s, and hardly a prediction changes (95 %% confidence).",
             100 * part, faster ? ", faster" : "");
    snprintf(ret_french, size,
             "Prenez-le : %.0f %% de la taille%s, et presque aucune prédiction ne change (confiance 95 %%).",
             100 * part, faster ? ", plus rapide" : "");
    return "take";
}
