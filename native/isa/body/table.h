// The last line of an instruction set's file: its table, made of the bodies over its primitives.
#include "attend.h"
#include "roof.h"
#include "floating.h"

namespace intaglio {

extern const Kernels INTAGLIO_TABLE = {
    INTAGLIO_NAME, 2 * L, matrix_bytes, pack,    bytes_before, lay_any,    linear,    accumulate,     row,    quantize,
    round_groups<quantize_group>, rms_norm, gate, rope, axpy, softcap, page_bytes, page_write, page_read, attend_scratch,
    attend,        peak,  read,
};

}  // namespace intaglio
