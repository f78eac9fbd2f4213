/* Inside model/: preprocessor_config.json, read into the steps that make a photo the model's input. Any
 * thread. */
#pragma once
#include "image/image.h"
#include "onnx/metadata.h"

/* Read a preprocessor_config.json as Hugging Face's image processors (and the older feature extractors) write
 * it; a missing field has the default of its image_processor_type. It may
 * stand within {"image_processor": …}. A form that is not known is refused. ERROR_NOT_FOUND: there is no such
 * file; ERROR_MODEL names the file and a field that is wrong. */
bool preprocessing_read(const char *path, struct preprocessing *ret, struct error *error);

/* timm's: `pretrained_cfg` of a config.json, or the whole of it where it has input_size and mean itself.
 * *ret_found: is there one? Its input_size is used where the network leaves the size open (`width`, `height`
 * < 1). ERROR_MODEL names the field. */
bool preprocessing_read_timm(const char *path, int64_t width, int64_t height, struct preprocessing *ret,
                             bool *ret_found, struct error *error);

/* What a network's metadata say of its pictures (Image.BitmapPixelFormat, Image.NominalPixelRange and the
 * like): the size exactly as the network takes it, no mean. ERROR_MODEL names a property that is not known.
 */
bool preprocessing_read_metadata(const struct onnx_metadata *metadata, int width, int height,
                                 struct preprocessing *ret, bool *ret_found, struct error *error);

/* ImageNet's usual preprocessing: the shorter edge to size / 0.875, a centre crop, torchvision's mean and
 * deviation. */
void preprocessing_default(int width, int height, struct preprocessing *ret);
