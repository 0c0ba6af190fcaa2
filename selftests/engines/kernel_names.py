"""Real names of CUDA kernels, the format in which each computes, and where the name was read."""

CUBLAS = "symbols of cuBLASLt 13.1"
CUDNN = "symbols of cuDNN 9.24"
TENSORRT = "tactics in logs of TensorRT's builder"
TORCH = "torch.profiler, kernels of ATen and cuBLAS"
H100 = "torch.profiler on an H100, cuDNN 9.19"
PROFILES = "published profiles of Nsight Systems and torch.profiler"
INDUCTOR = "torch/_inductor/select_algorithm.py"

NAMES = [
    # cuBLAS and cuBLASLt, Volta to Ampere
    ("volta_sgemm_128x128_lower_nt", "fp32", CUBLAS),
    ("volta_fp16_sgemm_fp16_128x128_lower_nt", "fp16", CUBLAS),
    ("volta_fp16_s884gemm_fp16_128x128_ldg8_f2f_nn", "fp16", CUBLAS),
    ("volta_s884gemm_fp16_128x128_ldg8_nn", "fp16", CUBLAS),
    ("volta_h884gemm_128x128_ldg8_nn", "fp16", CUBLAS),
    ("volta_dgemm_128x64_lower_nt", "fp64", CUBLAS),
    ("volta_cgemm_32x32_cc", "fp32", CUBLAS),
    ("cutlass_tensorop_c1688gemm_64x64_16x4_nn_align1", "tf32", "CUTLASS profiler"),
    ("cutlass_tensorop_c16816gemm_64x64_16x4_nn_align1", "unknown", "the scheme of such names"),
    ("turing_fp16_s1688gemm_fp16_128x128_ldg8_f2f_nn", "fp16", CUBLAS),
    ("turing_h1688gemm_128x128_ldg8_nn", "fp16", CUBLAS),
    ("ampere_sgemm_128x128_lower_nt", "fp32", CUBLAS),
    ("ampere_sgemm_int8_128x128_lower_nt", "int8", CUBLAS),
    ("ampere_hgemm_128x128_lower_nt", "fp16", CUBLAS),
    ("ampere_h16816gemm_128x128_ldg8_relu_stages_32x5_nn", "fp16", CUBLAS),
    ("ampere_s16816gemm_fp16_128x128_ldg8_relu_stages_32x5_nn", "fp16", CUBLAS),
    ("ampere_fp16_s16816gemm_fp16_128x128_ldg8_f2f_stages_32x5_nn", "fp16", CUBLAS),
    ("ampere_fp16_s1688gemm_fp16_128x128_ldg8_f2f_stages_32x1_tn", "fp16", PROFILES),
    ("ampere_bf16_s16816gemm_bf16_128x128_ldg8_f2f_stages_32x5_nn", "bf16", CUBLAS),
    ("ampere_s1688gemm_bf16_128x128_ldg8_nn", "bf16", CUBLAS),
    ("ampere_int8_i16832gemm_int8_256x128_ldg16_relu_mods_stages_64x3_nt", "int8", PROFILES),
    # CUTLASS inside cuBLAS
    ("void cutlass::Kernel2<cutlass_80_tensorop_s16816gemm_relu_bf16_256x128_32x3_tn_align8>()", "bf16", PROFILES),
    ("void cutlass::Kernel2<cutlass_80_wmma_tensorop_f16_s161616gemm_f16_16x16_128x2_tn_align8>()", "fp16", PROFILES),
    ("void cutlass::Kernel2<cutlass_70_tensorop_f16_s884gemm_f16_128x64_nn_align8>()", "fp16", PROFILES),
    ("void cutlass::Kernel2<cutlass_70_tensorop_h884gemm_128x128_tn_align8>()", "fp16", PROFILES),
    ("void cutlass::Kernel2<cutlass_75_tensorop_h1688gemm_128x64_tn_align8>()", "fp16", CUBLAS),
    ("void cutlass::Kernel2<cutlass_80_tensorop_h16816gemm_64x64_32x6_nn_align8>()", "fp16", CUBLAS),
    ("void cutlass::Kernel2<cutlass_80_simt_sgemm_128x64_8x5_nn_align1>(T1::Params)", "fp32", PROFILES),
    ("void cutlass::Kernel2<cutlass_80_tensorop_s1688gemm_128x64_16x6_tn_align4>(T1::Params)", "tf32", PROFILES),
    ("void cutlass::Kernel2<cutlass_80_tensorop_s1688f16gemm_128x64_16x6_tn_align4>(T1::Params)", "fp16", CUBLAS),
    ("void cutlass::Kernel2<cutlass_80_tensorop_s1688bf16gemm_128x64_16x6_tn_align4>(T1::Params)", "bf16", CUBLAS),
    ("void cutlass::Kernel2<cutlass_80_tensorop_i16832gemm_s8_256x128_64x3_tn_align16>(T1::Params)", "int8", PROFILES),
    ("cutlass_80_tensorop_s8_i16832gemm_s8_256x128_64x3_tn_align16", "int8", CUBLAS),
    ("cutlass_80_tensorop_z884gemm_64x64_8x3_nn_align1", "unknown", CUBLAS),
    ("cutlass_tensorop_s4_i16864gemm_s4_256x128_128x3_tn_align32", "unknown", "CUTLASS profiler"),
    ("cutlass_tensorop_s1688tf32gemm_256x128_16x3_nn_align4", "tf32", "CUTLASS profiler"),
    ("cutlass_tensorop_tf32_s1688gemm_tf32_256x128_16x3_nn_align4", "tf32", "CUTLASS profiler"),
    ("cutlass3x_sm100_simt_sgemm_f32_f32_f32_f32_f32_128x128x16_1x1x1_3_nnn_align1_bias_f32_relu", "fp32", CUBLAS),
    ("cutlass3x_sm100_tensorop_s128x128x8tf32gemm_f32_f32_f32_f32_f32_128x128x32_0_nnn_align4_2sm", "tf32", CUBLAS),
    ("cutlass3x_sm100_tensorop_s128x64x16gemm_bf16_bf16_f32_bf16_bf16_128x64x64_0_nnn_align8_1sm", "bf16", CUBLAS),
    ("cutlass3x_sm100_tensorop_h128x256x16gemm_f16_f16_f16_f16_f16_128x256x64_0_nnn_align8_2sm", "fp16", CUBLAS),
    ("cutlass3x_sm100_tensorop_i128x128x32gemm_s8_s8_s32_s32_s32_128x128x128_0_nnn_align16_1sm", "int8", CUBLAS),
    ("cutlass3x_sm100_tensorop_s128x64x32gemm_f8_f8_f32_bf16_bf16_128x64x128_0_nnn_align16_1sm", "fp8", CUBLAS),
    ("cutlass3x_sm100_tensorop_s128x128x8tf32implicit_gemm_fprop_f32_f32_f32_f32_f32_f32", "tf32", CUDNN),
    ("cutlass3x_sm100_tensorop_s128x64x16_conv2d_fprop_bn_stat_f16_f16_f32_f16_128x64x64", "fp16", CUDNN),
    ("cutlass3x_sm100_tensorop_s128x128x16_9xbf16gemm_f32_f32_f32_f32_f32_128x128x32", "unknown", CUBLAS),
    # XMMA inside cuBLAS, cuDNN and TensorRT
    ("sm75_xmma_gemm_f16f16_f16f32_f32_tn_n_tilesize128x64x32_stage1_warpsize2x2x1_tensor16x8x8", "fp16", CUBLAS),
    ("sm80_xmma_gemm_f32f32_f32f32_f32_nn_n_tilesize128x128x8_stage3_warpsize2x2x1_ffma_aligna4", "fp32", CUBLAS),
    ("sm80_xmma_gemm_f32f32_tf32f32_f32_nn_n_tilesize128x128x16_stage4_warpsize2x2x1_tensor16x8x8", "tf32", CUBLAS),
    ("sm80_xmma_gemm_f16f16_f32f32_f32_nn_n_tilesize128x128x8_stage3_warpsize2x2x1_ffma_aligna2", "fp16", CUBLAS),
    ("sm80_xmma_gemm_i8i8_i8i32_f32_tn_n_tilesize64x64x64_stage4_warpsize2x2x1_tensor16x8x32", "int8", TENSORRT),
    ("sm89_xmma_gemm_e4m3e4m3_e4m3f32_f32_tn_n_tilesize128x128x64_stage3_warpsize2x2x1", "fp8", CUBLAS),
    ("sm90_xmma_gemm_e4m3bf16_e4m3f32_f32_tn_n_tilesize128x128x128_cgasize1x1x1", "fp8", CUBLAS),
    ("sm90_xmma_gemm_f16f32_f16f32_f32_nn_n_tilesize128x128x64_cgasize1x1x1", "fp16", CUBLAS),
    ("sm90_xmma_gemm_bf16f32_bf16f32_f32_tn_n_tilesize128x128x64_cgasize1x1x1", "bf16", CUBLAS),
    ("sm90_xmma_gemm_f64f64_f64f64_f64_nn_n_tilesize128x128x16_stage3_warpsize4x2x1_tensor16x8x16", "fp64", CUBLAS),
    ("sm90_xmma_gemm_cf64cf64_f64f64_cf64_cc_n_tilesize16x32x64_stage3_warpsize1x2x2", "unknown", CUBLAS),
    ("sm80_xmma_fprop_implicit_gemm_f16f16_f16f32_f32_nhwckrsc_nhwc_tilesize256x64x32_stage3", "fp16", PROFILES),
    ("sm80_xmma_fprop_implicit_gemm_indexed_wo_smem_f16f16_f16f16_f16_nhwckrsc_nhwc_tilesize128x", "fp16", TENSORRT),
    ("sm80_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32_nchw_vect_c_32kcrs_vect_c_32", "int8", TENSORRT),
    ("sm80_xmma_fprop_sparse_conv_i8i8_i8i32_f32_nhwckrsc_nhwc_tilesize128x128x128_stage2", "int8", CUDNN),
    ("sm86_xmma_fprop_implicit_gemm_tf32f32_tf32f32_f32_nhwckrsc_nchw_tilesize128x128x16_stage3", "tf32", CUDNN),
    ("sm90_xmma_fprop_implicit_gemm_bf16bf16_bf16f32_f32_nhwckrsc_nhwc_tilesize64x64x64", "bf16", CUDNN),
    ("sm90_xmma_depthwise_convolution_fprop_tiling_f16f16_f32f32_f32_nhwckrsc_nhwc_tilesize1x10x10", "fp16", CUDNN),
    # cuDNN
    ("volta_scudnn_winograd_128x128_ldg1_ldg4_relu_tile148t_nt_v1", "fp32", CUDNN),
    ("maxwell_fp16_scudnn_winograd_fp16_fp32_128x128_ldg1_ldg4_tile148n_nt", "fp16", PROFILES),
    ("volta_fp16_scudnn_fp16_128x128_3dconv_dgrad_interior_nn_v1", "fp16", CUDNN),
    ("volta_hcudnn_128x128_3dconv_dgrad_interior_nn_v1", "fp16", CUDNN),
    ("_5x_cudnn_volta_s884cudnn_fp16_128x128_ldg8_dgrad_exp_interior_nhwc2nchw_tt_v1", "fp16", CUDNN),
    ("turing_fp16_s1688cudnn_fp16_128x128_ldg8_relu_f2f_exp_interior_nhwc_tt_v1", "fp16", CUDNN),
    ("turing_fp32_i8816cudnn_int8_128x128_ldg16_relu_interior_nt_v1", "int8", CUDNN),
    ("ampere_fp16_s16816cudnn_fp16_128x128_ldg8_relu_f2f_exp_interior_nhwc_tn_v1", "fp16", CUDNN),
    ("ampere_uint8x4_icudnn_uint8x4_int8x4_128x128_relu_exp_interior_nhwc_tn_v1", "int8", CUDNN),
    ("volta_fp32_icudnn_int8x4_128x128_relu_exp_interior_nhwc_tn_v1", "int8", CUDNN),
    ("cutlass_tensorop_s1688fprop_optimized_tf32_128x128_16x4_nhwc_align4", "tf32", CUDNN),
    ("void cutlass__5x_cudnn::Kernel<cutlass_tensorop_bf16_s16816fprop_optimized_bf16_128x64>()", "bf16", CUDNN),
    ("void cutlass__5x_cudnn::Kernel<cutlass_tensorop_h16816fprop_analytic_64x64_64x5_nhwc_align8>()", "fp16", CUDNN),
    ("cutlass_tensorop_first_layer_fprop_f16_f16_f32_void_f16_ndhwc_ndhwc_ndhwc_align4_filter_16x3x3x4", "fp16", CUDNN),
    ("void implicit_convolve_sgemm<float, float, 128, 5, 5, 3, 3, 3, 1, false, true, true>(int)", "fp32", PROFILES),
    ("void implicit_convolve_sgemm<__half, __half, 1024, 5, 5, 3, 3, 3, 1, false, true>(int)", "fp16", PROFILES),
    ("void implicit_convolveNd_sgemm<__nv_bfloat16, 3, 1024, 5, 5, 3, 3, 3, 1>(int)", "bf16", PROFILES),
    ("void convolve_common_engine_float_NHWC<__half, __half, 128, 5, 5, 3, 3, 3, true>(int)", "fp16", PROFILES),
    (
        "void cudnn::cnn::conv2d_grouped_direct_kernel<false, false, true, false, false, false, 0, 0, int, int, "
        "char32, signed char, char32, float, float>(cudnn::cnn::GroupedDirectFpropParams, char32 const*)",
        "int8",
        CUDNN,
    ),
    ("cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_7_64x128x64", "unknown", PROFILES),
    # TensorRT
    ("trt_volta_h884cudnn_256x128_ldg8_relu_exp_small_nhwc_tn_v1", "fp16", TENSORRT),
    ("trt_turing_h1688cudnn_256x64_ldg8_relu_exp_small_nhwc_tn_v1", "fp16", TENSORRT),
    ("trt_maxwell_int8x4_icudnn_int8x4_128x128_relu_small_nn_v1", "int8", TENSORRT),
    ("ampere_first_layer_filter3x3_imma_fwd_swish_execute_filter3x3_swish_kernel_trt", "int8", TENSORRT),
    # nvjet, cuBLAS's kernels for Hopper and later
    ("nvjet_hsh_128x128_64x6_1x2_h_bz_TNT", "fp16", PROFILES),
    ("nvjet_sm90_hss_320x128_64x3_1x2_h_bz_coopB_NNT", "fp16", PROFILES),
    ("nvjet_sm90_tst_128x64_64x10_2x1_v_bz_TNT", "bf16", PROFILES),
    ("nvjet_tss_256x128_64x4_1x2_h_bz_coopA_TNT", "bf16", PROFILES),
    ("nvjet_sm100_tst_64x16_64x16_2x4_2cta_h_bz_splitK_TNT", "bf16", PROFILES),
    ("nvjet_qqtst_128x256_128x6_2x1_2cta_v_bz_TNT", "fp8", PROFILES),
    ("nvjet_sm90_qqtst_128x128_128x6_1x2_h_bz_ovscale_TNT", "fp8", PROFILES),
    ("nvjet_sss_tf32_128x256_TNT", "tf32", PROFILES),
    ("nvjet_sm120_ooxyz_128x128_TNT", "unknown", "a code that is not known"),
    # cuDNN's convolutions by Fourier transform
    ("sm80_xmma_gemm_cf32cf32_f32f32_cf32_tn_n_tilesize32x64x8_stage3_warpsize2x2x1_ffma_aligna8", "fp32", H100),
    ("sm80_xmma_gemm_cf32cf32_tf32tf32_cf32_tn_n_tilesize32x64x8_stage3", "tf32", CUBLAS),
    ("void fft2d_r2c_16x16<float>(float2*, float const*, int, int, int, int, int, int, int, int)", "fp32", H100),
    ("void fft2d_r2c_16x16<__half>(float2*, __half const*, int, int, int, int, int, int, int, int)", "fp32", H100),
    ("void flip_filter<float, float>(float*, float const*, int, int, int, int)", "fp32", H100),
    # torch's own kernels, and cuBLAS's for vectors
    ("void conv_depthwise2d_forward_kernel<5, c10::BFloat16, int>(int)", "bf16", TORCH),
    ("void conv_depthwise2d_forward_kernel<3, c10::Half, int>(int)", "fp16", TORCH),
    ("void conv_depthwise2d_forward_kernel<3, float, int>(int)", "fp32", TORCH),
    ("void gemmSN_TN_kernel<float, 128, 16, 2, 4, 4, 4, true, cublasGemvTensorBatched<float const>>()", "fp32", TORCH),
    (
        "void gemv2T_kernel_val<int, int, __half, __half, __half, float, 128, 16, 4, 4, false, false, "
        "cublasGemvParamsEx<int, cublasGemvTensorStridedBatched<__half const>, float>>()",
        "fp16",
        CUBLAS,
    ),
    (
        "void gemv2T_kernel_val<int, int, float2, float2, float2, float2, 128, 16, 2, 2, false, false, "
        "cublasGemvParamsEx<int, cublasGemvTensorStridedBatched<float2 const>, float2>>()",
        "fp32",
        CUBLAS,
    ),
    ("void dot_kernel<float, 128, 0, cublasDotParams<cublasGemvTensor<__half const>, int>>()", "fp16", CUBLAS),
    (
        "void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<64, 128, 128, 4, false, false, "
        "cutlass::bfloat16_t>>()",
        "bf16",
        TORCH,
    ),
    ("fmha_cutlassF_f16_aligned_64x64_rf_sm80(PyTorchMemEffAttention)", "fp16", TORCH),
    ("void xmma_new::gemm::kernel<xmma_new::gemm::Kernel_traits<Ampere_hmma_tf32_traits<float>>>()", "tf32", PROFILES),
    (
        "void xmma_new::gemm::kernel<xmma_new::gemm::Kernel_traits<Ampere_hmma_fp32_traits<float>>>()",
        "unknown",
        PROFILES,
    ),
    # templates of Triton name what they compute, and no format
    ("triton_tem_fused_mm_0", "unknown", INDUCTOR),
    ("triton_tem_fused_addmm_relu_3", "unknown", INDUCTOR),
    ("triton_tem_fused_convolution_bf16_1", "unknown", INDUCTOR),
]

# Kernels beside the matrix work, which have no say in its format.
HELPERS = [
    "void cask_plugin__5x_cudnn::xmma__5x_cudnn::init_device_workspace_kernel<xmma__5x_cudnn::implicit_gemm::fprop::"
    "Warp_specialized_params_non_template<xmma__5x_cudnn::Grid_constant_params> >()",
    "triton_poi_fused_convolution_relu_3",
    "triton_red_fused_mm_2",
    "void cask__5x_cudnn::computeOffsetsKernel<false, false>",
    "void cudnn::ops::nchwToNhwcKernel<float, float>",
    "void cublasLt::splitKreduce_kernel<32, 16, int, float, __nv_bfloat16, float, __nv_bfloat16>()",
    "void cudnn::winograd_nonfused::winogradForwardData4x4<float, __half>()",
    "void cudnn::pooling_fw_4d_kernel<float, float, cudnn::maxpooling_func>()",
    "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<c10::Half>>()",
]
