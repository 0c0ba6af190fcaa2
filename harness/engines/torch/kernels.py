"""What the name of a CUDA kernel says: whether it multiplies matrices, and in which format.

A kernel that a CUDA graph replays has no operator in the trace, and neither ONNX Runtime nor TensorRT launches its
kernels from an operator of torch. There the name is all that tells the format. The format of a kernel is that of its
operands, or the one to which the kernel shortens them: a half-precision product that is summed in fp32 is fp16, and
fp32 operands on TF32 units are tf32. A name that these rules do not understand is `unknown`, never a guess.

The rules are those by which the names are built. Source: the symbols of the cuBLAS 13.1 and cuDNN 9.24 libraries, and
CUTLASS, "Kernel naming" in its profiler's documentation; `selftests/engines/kernel_names.py` lists real names of each
kind with their sources.
"""

from __future__ import annotations

import re

UNKNOWN = "unknown"

# Inductor names pointwise kernels after the operators that they follow: triton_poi_fused_convolution_relu_3 only adds a
# bias. Names with triton_tem_ are templates, which do the matrix work.
POINTWISE = re.compile(r"^triton_(?!tem_)")
_MATRIX = re.compile(
    r"gemm|conv|fprop|dgrad|wgrad|cutlass|xmma|nvjet|(?<![a-z])[shi]\d*cudnn|winograd|cudnn.*(engine|kernel)|dot_kernel|gemv|matmul"
    r"|^triton_tem_|fmha|flash_fwd|imma_|fft2d_|flip_filter",
    re.I,
)
# Kernels beside the product itself: they move, add up or transform values, and most name no format of operands.
_HELPER = re.compile(
    r"computeOffsets|nchwToNhwc|nhwcToNchw|bn_fw|splitKreduce|winograd(Forward|Backward|Wgrad)(Data|Filter|Output)"
    r"|init_device_workspace|pooling|softmax|OpTensor|transformTensor|convert(?!ol)",
    re.I,
)

# Types among the template arguments of a kernel, such as conv_depthwise2d_forward_kernel<5, c10::BFloat16, int>.
_TYPES = {
    **dict.fromkeys(("Half", "__half", "half_t", "half"), "fp16"),
    **dict.fromkeys(("BFloat16", "__nv_bfloat16", "bfloat16_t", "nv_bfloat16"), "bf16"),
    **dict.fromkeys(("char32", "char4", "uchar4", "signed char", "unsigned char", "int8_t", "uint8_t"), "int8"),
    **dict.fromkeys(("__nv_fp8_e4m3", "__nv_fp8_e5m2", "float_e4m3_t", "float_e5m2_t"), "fp8"),
    "tfloat32_t": "tf32",
    "float": "fp32",
    "double": "fp64",
}
_TYPE = re.compile(rf"(?<![\w])(?:\w+::)*({'|'.join(sorted(_TYPES, key=len, reverse=True))})(?![\w])")
# The data of cuBLAS's vector kernels, whose first argument may be the type in which they add up.
_DATA = re.compile(r"cublasGemvTensor\w*<(\w+)(?: const)?")
# Complex numbers. Convolutions by Fourier transform, whatever their operands, multiply those of two fp32.
_COMPLEX = re.compile(r"\b(?P<fp32>float2|cuComplex)\b|\b(double2|cuDoubleComplex)\b|complex")

# Words between underscores. Formats that are in no table of precisions are known not to be any of them.
_WORDS = {
    **dict.fromkeys(("fp16", "f16", "half"), "fp16"),
    **dict.fromkeys(("bf16", "bfloat16"), "bf16"),
    **dict.fromkeys(("fp32", "f32"), "fp32"),
    **dict.fromkeys(("fp64", "f64"), "fp64"),
    **dict.fromkeys(("int8", "uint8", "int8x4", "uint8x4", "int8x32", "s8", "u8", "i8"), "int8"),
    **dict.fromkeys(("f8", "fp8", "e4m3", "e5m2"), "fp8"),
    **dict.fromkeys(("s4", "u4", "int4", "f4", "fp4", "e2m1", "b1"), UNKNOWN),
    "tf32": "tf32",
}
# s16816gemm, h884cudnn, sgemm, i16832gemm, s1688tf32gemm, s128x64x16gemm, bf16gemm: accumulator, shape of one
# instruction, format to which fp32 operands are shortened, and what is computed.
_INSTRUCTION = re.compile(r"(g?[a-z])?(\d{3,}|\d+x\d+x\d+)?(tf32|bf16|f16)?(gemm|cudnn|implicit|fprop|dgrad|wgrad)?")
_PASSES = ("fprop", "dgrad", "wgrad")
_BY_ACCUMULATOR = {"h": "fp16", "i": "int8", "d": "fp64", "c": "fp32"}
_TF32_SHAPES = ("1688", "1684")

# sm80_xmma_gemm_f32f32_tf32f32_f32: operand and result, operand and sum as they are multiplied, epilogue.
_ATOM = r"(?:tf32|bf16|cf64|cf32|f16|f32|f64|i8|u8|i32|i4|b1|e4m3|e5m2)"
_XMMA = re.compile(rf"_(({_ATOM})+)_(({_ATOM})+)_{_ATOM}(?![a-z0-9])")
_XMMA_ORDER = ("e4m3", "e5m2", "i8", "u8", "bf16", "f16", "tf32", "f32", "f64")

# nvjet_hsh, nvjet_sm90_tst, nvjet_qqtst: formats of the operands, of the sum and of the result, a letter each.
_NVJET = re.compile(r"nvjet_(?:sm\d+[a-z]?_)?([a-z]+)_(tf32)?")
_NVJET_LETTERS = {"h": "fp16", "t": "bf16"}

# cuDNN's kernels for depthwise convolutions, which have one channel and one filter a group. They are on no matrix unit
# and take operands of any width as they are. Up to cuDNN 8 their template arguments say which; later names do not.
_AS_ITS_OPERANDS = re.compile(r"^(conv|dgrad|wgrad)2d_c1_k1_\w+$")


def is_matrix_kernel(name: str) -> bool:
    """Return whether a kernel of this name is a convolution, a matrix product or attention."""
    return bool(_MATRIX.search(name)) and not POINTWISE.match(name) and not _HELPER.search(name)


def takes_its_operands_format(name: str) -> bool:
    """Return whether a kernel of this name computes in the format of its operands, whichever that is."""
    return bool(_AS_ITS_OPERANDS.match(name))


def kernel_dtype(name: str) -> str:
    """Return the format in which a kernel of this name computes, as in the table of precisions, or `unknown`."""
    if name.startswith("triton_") or "sdpa" in name:  # cuDNN's attention says f16 for both formats of 16 bits
        return UNKNOWN
    if found := _NVJET.search(name):
        return _nvjet(found[1], found[2])
    if "xmma_" in name and "::" in name.partition("xmma_")[2].partition("<")[0]:  # xmma_cudnn::gemm::kernel<…traits<…
        return "tf32" if "tf32" in name else UNKNOWN
    if "xmma" in name:
        return _xmma(name)
    return _typed(name) or _spelt(name.lower())


def _nvjet(letters: str, tf32: str | None) -> str:
    if len(letters) == 5 and set(letters[:2]) <= set("qr"):
        return "fp8"
    if len(letters) == 3:
        return "tf32" if letters[0] == "s" and tf32 else _NVJET_LETTERS.get(letters[0], UNKNOWN)
    return UNKNOWN


def _xmma(name: str) -> str:
    found = _XMMA.search(name)
    if found is None or "cf64" in found[0]:
        return UNKNOWN
    if "cf32" in found[0]:  # of a Fourier transform: the middle begins with what its two parts are multiplied in
        return next((_WORDS[atom] for atom in ("tf32", "f32") if found[3].startswith(atom)), UNKNOWN)
    operands = [match[0] for match in (re.match(_ATOM, found[1]), re.match(_ATOM, found[3])) if match]
    atom = next((atom for atom in _XMMA_ORDER if atom in operands), "")
    return _WORDS.get(atom, UNKNOWN)


def _typed(name: str) -> str | None:
    """Return the format of the first number type among the template arguments, None where there is none."""
    _, opened, arguments = name.partition("<")
    if not opened:
        return None
    if complex_numbers := _COMPLEX.search(arguments):
        return "fp32" if complex_numbers["fp32"] else UNKNOWN
    data = _DATA.search(arguments)
    if data and data[1] in _TYPES:
        return _TYPES[data[1]]
    found = _TYPE.search(arguments.partition(">(")[0])
    return _TYPES[found[1]] if found else None


def _spelt(name: str) -> str:
    """Return the format in names such as ampere_fp16_s16816gemm_fp16_128x64_ldg8: after the instruction, or in it."""
    words = re.split(r"[^a-z0-9]+", name)
    for index, word in enumerate(words):
        if word.endswith("imma") or word == "imma":
            return "int8"
        found = _INSTRUCTION.fullmatch(word)
        if not found:
            continue
        accumulator, shape, shortened, verb = found.groups()
        is_instruction = verb is not None and (accumulator or shortened or verb in _PASSES)
        if not is_instruction and not (accumulator and "x" in (shape or "")):
            continue
        if shortened:
            return _WORDS[shortened]
        if accumulator and accumulator not in "shidc":
            return UNKNOWN
        operand = next((_WORDS[later] for later in words[index + 1 :] if later in _WORDS), None)
        is_named_before = any(earlier in _WORDS for earlier in words[:index])
        return _of_instruction(accumulator, shape, operand, is_named_before)
    named = {_WORDS[word] for word in words if word in _WORDS}
    return named.pop() if len(named) == 1 else UNKNOWN


def _of_instruction(accumulator: str | None, shape: str | None, operand: str | None, is_named_before: bool) -> str:
    if accumulator == "c" and shape is not None:  # complex, on matrix units: its two parts are shortened
        return "tf32" if shape in _TF32_SHAPES else UNKNOWN
    is_on_matrix_units = accumulator == "s" and shape is not None
    if operand == "fp32" and is_on_matrix_units:  # no such unit multiplies fp32 unshortened
        return "tf32" if shape in _TF32_SHAPES else UNKNOWN
    if operand is not None:
        return operand
    if is_on_matrix_units:
        return "tf32" if shape in _TF32_SHAPES and not is_named_before else UNKNOWN
    if accumulator == "s":
        return UNKNOWN if is_named_before else "fp32"
    return _BY_ACCUMULATOR.get(accumulator or "", UNKNOWN)
