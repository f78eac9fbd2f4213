/* One sentence of advice, from the ends of the intervals that are worse. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "quant/language_measure.h"

/* A divergence below GOOD is hardly noticed in a text, one above BAD is; the same of perplexity's growth. */
#define GOOD_DIVERGENCE 0.05
#define BAD_DIVERGENCE 0.15
#define GOOD_RATIO 1.03
#define BAD_RATIO 1.10
#define WORTH_SIZE 0.9 /* of the original: more is no gain */

const char *language_verdict_name(enum language_verdict verdict) {
    static const char *const names[] = {"take", "maybe", "leave"};
    return names[verdict];
}

static enum language_verdict judge(const struct language_comparison *c, char *ret_english, char *ret_french,
                                   size_t size) {
    double part = (double)c->sides[1].bytes / (double)(c->sides[0].bytes ? c->sides[0].bytes : 1);
    bool smaller = part<WORTH_SIZE, faster = c->step_speedup.low> 1.05, slower = c->step_speedup.high < 0.95;
    bool good = c->divergence.high <= GOOD_DIVERGENCE && c->ratio.high <= GOOD_RATIO,
         bad = c->divergence.low > BAD_DIVERGENCE || c->ratio.low > BAD_RATIO,
         unsure = !bad && !(c->divergence.high <= BAD_DIVERGENCE && c->ratio.high <= BAD_RATIO);

    if (!smaller && !faster) {
        snprintf(ret_english, size, "Don't: it is neither smaller nor faster than the original.");
        snprintf(ret_french, size, "Non : il n’est ni plus petit ni plus rapide que l’original.");
        return LANGUAGE_LEAVE;
    }
    if (bad) {
        snprintf(ret_english, size,
                 "Don't: its texts are noticeably worse (with 95 %% confidence); try a type with more bits.");
        snprintf(ret_french, size,
                 "Non : ses textes sont nettement moins bons (confiance 95 %%) ; essayez un type de plus de "
                 "bits.");
        return LANGUAGE_LEAVE;
    }
    if (unsure) {
        snprintf(
            ret_english, size,
            "Perhaps: %zu tokens are too few to tell whether its texts are as good; measure with more text.",
            c->tokens);
        snprintf(ret_french, size,
                 "Peut-être : %zu jetons ne suffisent pas pour dire si ses textes sont aussi bons ; mesurez "
                 "avec plus de texte.",
                 c->tokens);
        return LANGUAGE_MAYBE;
    }
    if (slower) {
        snprintf(
            ret_english, size,
            "Take it if memory matters more than speed: it is slower than the original on this machine.");
        snprintf(ret_french, size,
                 "Prenez-le si la mémoire compte plus que la vitesse : il est plus lent que l’original sur "
                 "cette machine.");
        return LANGUAGE_MAYBE;
    }
    if (!good) {
        snprintf(
            ret_english, size,
            "Take it if you need the %s: its texts differ a little from the original's (95 %% confidence).",
            smaller ? "memory" : "speed");
        snprintf(ret_french, size,
                 "Prenez-le s’il vous faut %s : ses textes diffèrent un peu de ceux de l’original (confiance "
                 "95 %%).",
                 smaller ? "la mémoire" : "la vitesse");
        return LANGUAGE_MAYBE;
    }
    snprintf(ret_english, size,
             "Take it: %.0f %% of the size%s, and its texts are hardly different (95 %% confidence).",
             100 * part, faster ? ", faster" : "");
    snprintf(ret_french, size,
             "Prenez-le : %.0f %% de la taille%s, et des textes presque identiques (confiance 95 %%).",
             100 * part, faster ? ", plus rapide" : "");
    return LANGUAGE_TAKE;
}

static void append(char *sentence, size_t size, const char *more) {
    size_t length = strlen(sentence);
    snprintf(sentence + length, size - length, "%s", more);
}

enum language_verdict language_judge(const struct language_comparison *c, char *ret_english, char *ret_french,
                                     size_t size) {
    enum language_verdict verdict = judge(c, ret_english, ret_french, size);
    if (c->is_sampled) {
        append(ret_english, size, " Judged by texts that the model wrote itself; --text judges by yours.");
        append(ret_french, size,
               " Jugé sur des textes que le modèle a écrits lui-même ; --text juge sur les vôtres.");
    }
    return verdict;
}
