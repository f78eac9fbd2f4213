/* For tests: two graphs are the same in everything that a file holds. Include cmocka.h first. */
#pragma once
#include "graph/graph.h"

static inline void same_values(const struct value *a, const struct value *b) {
    assert_string_equal(a->name, b->name);
    assert_int_equal(a->constant != NULL, b->constant != NULL);
    if (!a->constant)
        return;
    assert_int_equal(a->constant->dtype, b->constant->dtype);
    assert_true(shape_equal(&a->constant->shape, &b->constant->shape));
    if (tensor_bytes(a->constant))
        assert_memory_equal(a->constant->data, b->constant->data, tensor_bytes(a->constant));
}

static inline void same_graphs(const struct graph *a, const struct graph *b) {
    assert_int_equal(a->node_count, b->node_count);
    assert_int_equal(a->input_count, b->input_count);
    assert_int_equal(a->output_count, b->output_count);
    for (int i = 0; i < a->input_count; i++) {
        assert_int_equal(a->inputs[i]->dtype, b->inputs[i]->dtype);
        assert_true(shape_equal(&a->inputs[i]->shape, &b->inputs[i]->shape));
    }
    const struct node *n = b->first;
    for (const struct node *m = a->first; m; m = m->next, n = n->next) {
        assert_string_equal(m->name, n->name);
        assert_string_equal(m->op_type, n->op_type);
        assert_int_equal(m->opset, n->opset);
        assert_int_equal(m->attribute_count, n->attribute_count);
        for (int i = 0; i < m->attribute_count; i++) {
            const struct attribute *p = &m->attributes[i], *q = &n->attributes[i];
            assert_string_equal(p->name, q->name);
            assert_int_equal(p->kind, q->kind);
            assert_true(p->i == q->i && p->f == q->f && p->count == q->count);
            if (p->kind == ATTRIBUTE_STRING)
                assert_string_equal(p->s, q->s);
            if (p->kind == ATTRIBUTE_INTS && p->count)
                assert_memory_equal(p->ints, q->ints, p->count * 8);
            if (p->kind == ATTRIBUTE_FLOATS && p->count)
                assert_memory_equal(p->floats, q->floats, p->count * 4);
            if (p->kind == ATTRIBUTE_TENSOR)
                assert_memory_equal(p->tensor->data, q->tensor->data, tensor_bytes(p->tensor));
        }
        assert_int_equal(m->input_count, n->input_count);
        for (int i = 0; i < m->input_count; i++) {
            assert_int_equal(m->inputs[i] != NULL, n->inputs[i] != NULL);
            if (m->inputs[i])
                same_values(m->inputs[i], n->inputs[i]);
        }
    }
}
