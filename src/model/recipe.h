/* Inside model/: preprocessor_config.json -> the steps that make a photo into the model's input. */
#pragma once
#include "image/image.h"

/* Read a preprocessor_config.json in the styles of Hugging Face's image processors (and the feature
 * extractors before them); what it leaves out has the default of its image_processor_type. ERROR_NOT_FOUND
 * where there is no file; ERROR_MODEL naming file and field where a field cannot be. */
bool recipe_read(const char *path, struct image_recipe *ret, struct error *error);

/* ImageNet's usual recipe: the short edge to size / 0.875, centre crop, torchvision's mean and deviation. */
void recipe_default(int width, int height, struct image_recipe *ret);
