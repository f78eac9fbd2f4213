/* ONNX files: read into a graph over a memory map, bounds-checked at every step; and written from a graph.
 *
 * A hostile file costs an error, never a crash: protobuf is walked with a cursor, sizes are checked against
 * the file, names and counts against limits.h. https://github.com/onnx/onnx/blob/main/onnx/onnx.proto gives
 * the fields. Any thread, each with a graph of its own. */
#pragma once
#include "graph/graph.h"

/* Read a model. Initializers with raw data stay in the map (copied only if they are not aligned for their
 * type); external data files are mapped too, and must lie in the model's own folder (no "..", no absolute
 * paths, no symbolic links out, but to where the model's file is a link, too). Nodes are sorted
 * topologically. ERROR_MODEL says where: "model.onnx: initializer 'fc.weight': raw data has 12 bytes, shape
 * 1000x2048 of float32 needs 8192000". */
struct graph *onnx_graph_read(const char *path, struct error *error);
/* The same from memory, which must outlive the graph; external data is refused. `name` is for messages. */
struct graph *onnx_graph_read_memory(const char *name, const uint8_t *bytes, size_t size,
                                     struct error *error);

/* One tensor in a file of its own, as ONNX's test data has it (TensorProto). The data is malloc'ed:
 * free(ret->data). */
bool onnx_tensor_read(const char *path, struct tensor *ret, struct error *error);

/* Write the graph as an ONNX file (IR version 8, its opset imports), atomically. Post-ops are refused: they
 * are not ONNX. */
bool onnx_graph_write(const struct graph *graph, const char *path, struct error *error);
