#include "hub/catalogue.h"

#include <string.h>

#define ZOO "validated/vision/classification/"

/* The ONNX zoo's networks come without config files; a pull adds ImageNet's labels and preprocessing
 * (model/defaults.h). */
static const struct catalogue_file vgg16_files[] = {
    {ZOO "vgg/model/vgg16-12.onnx", "model.onnx",
     "722c42f53ca03a5480296bf8f9c85a151de3eed9ec982d7d2302ff6e2900c67b", 553437752},
};

static const struct catalogue_file resnet50_files[] = {
    {ZOO "resnet/model/resnet50-v1-12.onnx", "model.onnx",
     "3f03fdef724b22947eed826f1eef1dc5c34151bb4c37d634f1db89dfa2dd1526", 102576593},
    {ZOO "resnet/model/resnet50-v1-12-qdq.onnx", "model_int8.onnx",
     "e6429d274805654c79ba68dc886c1efd4eff95393e747c35d3fdab579febd8a0", 25753167},
};

#define FILES(list) .files = list, .file_count = sizeof list / sizeof *list

static const struct catalogue_entry entries[] = {
    {.name = "resnet152",
     .title = "ResNet-152, ImageNet, 224x224",
     .repository = "Xenova/resnet-152",
     .revision = "main",
     .size = 241000000},
    {.name = "convnext_base",
     .title = "ConvNeXt-B, ImageNet, 224x224",
     .repository = "Xenova/convnext-base-224",
     .revision = "main",
     .size = 355000000},
    {.name = "swin_b",
     .title = "Swin-B, ImageNet, 224x224",
     .repository = "Xenova/swin-base-patch4-window7-224",
     .revision = "main",
     .size = 358000000},
    {.name = "vgg16",
     .title = "VGG-16, ImageNet, 224x224",
     .repository = "onnxmodelzoo/legacy_models",
     .revision = "main",
     .size = 553437752,
     FILES(vgg16_files)},
    {.name = "resnet50",
     .title = "ResNet-50, ImageNet, 224x224, float and int8",
     .repository = "onnxmodelzoo/legacy_models",
     .revision = "main",
     .size = 102576593 + 25753167,
     FILES(resnet50_files)},
};

size_t catalogue_count(void) {
    return sizeof entries / sizeof *entries;
}

const struct catalogue_entry *catalogue_at(size_t index) {
    return &entries[index];
}

const struct catalogue_entry *catalogue_find(const char *name) {
    for (size_t i = 0; i < catalogue_count(); i++)
        if (!strcmp(entries[i].name, name))
            return &entries[i];
    return NULL;
}
