/* A function for each verb of `guichet VERB …`; argv[0] is the verb. Returns the exit code: 0 done, 1 failed,
 * 2 usage error. */
#pragma once

int verb_backend(int argc, char **argv);
int verb_bake(int argc, char **argv);
int verb_bench(int argc, char **argv);
int verb_chat(int argc, char **argv);
int verb_classify(int argc, char **argv);
int verb_compare(int argc, char **argv);
int verb_complete(int argc, char **argv);
int verb_embed(int argc, char **argv);
int verb_evaluate(int argc, char **argv);
int verb_frontend(int argc, char **argv);
int verb_gateway(int argc, char **argv);
int verb_health(int argc, char **argv);
int verb_inspect(int argc, char **argv);
int verb_logits(int argc, char **argv);
int verb_models(int argc, char **argv);
int verb_perplexity(int argc, char **argv);
int verb_pull(int argc, char **argv);
int verb_convert(int argc, char **argv);
int verb_quantize(int argc, char **argv);
int verb_run(int argc, char **argv);
int verb_serve(int argc, char **argv);
int verb_teach(int argc, char **argv);
int verb_template(int argc, char **argv);
int verb_tokenize(int argc, char **argv);
