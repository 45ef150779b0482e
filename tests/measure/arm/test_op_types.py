"""Names of kernels as they stand in LiteRT 2.3.0's arm64 library, and what they serve."""

from __future__ import annotations

import pytest

from tflite_asr.measure.arm.op_types import DISPATCH, MATRIX_PRODUCT, PACKING, REST, count_by_op_type, op_type

SERVES = {
    "xnn_qs8_qc8w_gemm_minmax_fp32_ukernel_4x16c4__asm_aarch64_neondot_ld128": MATRIX_PRODUCT,
    "xnn_f32_gemm_minmax_ukernel_6x8__asm_aarch64_neonfma_cortex_a53_prfm": MATRIX_PRODUCT,
    "kai_run_matmul_clamp_f32_qai8dxp4x4_qsi8cxp4x4_16x4_neon_dotprod": MATRIX_PRODUCT,
    "ruy::Kernel8bitNeonDotprod(ruy::KernelParams8bit<8, 8> const&)": MATRIX_PRODUCT,
    "xnn_qs8_qc8w_igemm_minmax_fp32_ukernel_4x16c8__neoni8mm": "CONV_2D",
    "xnn_qs8_qc8w_dwconv_minmax_fp32_ukernel_25p16c__neonv8_mla8_ld64": "DEPTHWISE_CONV_2D",
    "xnn_x32_packw_gemm_goi_ukernel_x8__neon_ld4lane_u4_prfm": PACKING,
    "kai_run_lhs_quant_pack_qai8dxp_f32": PACKING,
    "ruy::Pack8bitColMajorForNeonDotprod(void const*, int)": PACKING,
    "xnn_qs8_vaddc_minmax_ukernel__neon_ld64_u32": "ADD, SUB",
    "xnn_qs8_vmulc_minmax_rndnu_ukernel__neon_ld64_u16": "MUL",
    "xnn_f32_vsqrdiffc_ukernel__neon_u8": "SQUARED_DIFFERENCE",
    "xnn_f32_vsqr_ukernel__neon_u8": "SQUARE",
    "xnn_f32_vlog_ukernel__neon_rational_3_3_div_u8": "LOG",
    "xnn_f32_vsigmoid_ukernel__neonfma_rr1_lut64_p2_nr2recps_u16": "LOGISTIC",
    "xnn_f32_raddstoreexpminusmax_ukernel__neonfma_rr1_lut64_p2_u16_acc2": "SOFTMAX",
    "xnn_qs8_rsum_ukernel__neondot_u32_acc2": "SUM, MEAN",
    "xnn_x32_transposec_ukernel__4x4_aarch64_neon_tbl128": "TRANSPOSE",
    "tflite::GetInvSqrtQuantizedMultiplierExp(int, int, int*, int*)": "RSQRT",
    "TfLiteStatus tflite::ops::builtin::exp::Eval<(tflite::ops::builtin::exp::KernelType)0>(TfLiteContext*)": "EXP",
    "tflite::ops::builtin::batch_matmul::Eval(TfLiteContext*, TfLiteNode*)": "BATCH_MATMUL",
    "pthreadpool_parallelize_5d": DISPATCH,
    "pthread_mutex_lock": DISPATCH,
    "tflite::GetTensorShape(TfLiteTensor const*)": DISPATCH,
    "tflite::ops::builtin::elementwise::(anonymous namespace)::LogEval(TfLiteContext*, TfLiteNode*)": "LOG",
    "void tflite::optimized_integer_ops::FullyConnected<signed char, signed char>(int)": "FULLY_CONNECTED",
    "bool tflite::cpu_backend_gemm::detail::CustomGemv<signed char, signed char>(int)": MATRIX_PRODUCT,
    "xnn_compute_igemm": DISPATCH,
}


@pytest.mark.parametrize("function", SERVES)
def test_a_kernel_serves_the_op_that_its_name_says(function: str):
    assert op_type(function) == SERVES[function]


@pytest.mark.parametrize("function", ["[libc.so.6]", "tflite::MultiplyByQuantizedMultiplier(int, int, int)"])
def test_what_serves_no_op_that_is_known_is_the_rest(function: str):
    assert op_type(function) == REST


def test_kernels_of_one_op_are_added_and_nothing_is_lost():
    counted = count_by_op_type(
        {"xnn_qs8_vadd_minmax_ukernel__a": 5, "[libc.so.6]": 7, "xnn_f32_vsub_ukernel__b": 4}
    )
    assert counted == {"ADD, SUB": 9, REST: 7}
    assert list(counted) == ["ADD, SUB", REST]
