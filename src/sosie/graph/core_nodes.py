"""The nodes of ComfyUI itself that image workflows use, in the short form of `notation`.

Facts of the interface as a server of version 0.33 describes it (`GET /object_info`): names, types, order,
defaults and ranges.
"""

from __future__ import annotations

LOADERS = """
CheckpointLoaderSimple -> MODEL, CLIP, VAE
  ckpt_name FILE checkpoints
CheckpointLoader -> MODEL, CLIP, VAE
  config_name COMBO, ckpt_name FILE checkpoints
ImageOnlyCheckpointLoader -> MODEL, CLIP_VISION, VAE
  ckpt_name FILE checkpoints
unCLIPCheckpointLoader -> MODEL, CLIP, VAE, CLIP_VISION
  ckpt_name FILE checkpoints
UNETLoader -> MODEL
  unet_name FILE diffusion_models, weight_dtype COMBO default default|fp8_e4m3fn|fp8_e4m3fn_fast|fp8_e5m2
CLIPLoader -> CLIP
  clip_name FILE text_encoders, type COMBO stable_diffusion, device? COMBO default default|cpu
DualCLIPLoader -> CLIP
  clip_name1 FILE text_encoders, clip_name2 FILE text_encoders, type COMBO sdxl, device? COMBO default default|cpu
TripleCLIPLoader -> CLIP
  clip_name1 FILE text_encoders, clip_name2 FILE text_encoders, clip_name3 FILE text_encoders
QuadrupleCLIPLoader -> CLIP
  clip_name1 FILE text_encoders, clip_name2 FILE text_encoders, clip_name3 FILE text_encoders,
  clip_name4 FILE text_encoders
VAELoader -> VAE
  vae_name FILE vae
LoraLoader -> MODEL, CLIP
  model MODEL, clip CLIP, lora_name FILE loras, strength_model FLOAT 1 -100:100, strength_clip FLOAT 1 -100:100
LoraLoaderModelOnly -> MODEL
  model MODEL, lora_name FILE loras, strength_model FLOAT 1 -100:100
LoraLoaderBypass -> MODEL, CLIP
  model MODEL, clip CLIP, lora_name FILE loras, strength_model FLOAT 1 -100:100, strength_clip FLOAT 1 -100:100
ControlNetLoader -> CONTROL_NET
  control_net_name FILE controlnet
DiffControlNetLoader -> CONTROL_NET
  model MODEL, control_net_name FILE controlnet
CLIPVisionLoader -> CLIP_VISION
  clip_name FILE clip_vision
ModelPatchLoader -> MODEL_PATCH
  name FILE model_patches
UpscaleModelLoader -> UPSCALE_MODEL
  model_name FILE upscale_models
StyleModelLoader -> STYLE_MODEL
  style_model_name FILE style_models
"""

MODELS = """
CLIPSetLastLayer -> CLIP
  clip CLIP, stop_at_clip_layer INT -1 -24:-1
ModelSamplingAuraFlow -> MODEL
  model MODEL, shift FLOAT 1.73 0:100
ModelSamplingSD3 -> MODEL
  model MODEL, shift FLOAT 3 0:100
ModelSamplingFlux -> MODEL
  model MODEL, max_shift FLOAT 1.15 0:100, base_shift FLOAT 0.5 0:100, width INT 1024 16:16384,
  height INT 1024 16:16384
ModelSamplingDiscrete -> MODEL
  model MODEL, sampling COMBO eps eps|v_prediction|lcm|x0|img_to_img|img_to_img_flow, zsnr BOOLEAN false
ModelSamplingContinuousEDM -> MODEL
  model MODEL, sampling COMBO v_prediction, sigma_max FLOAT 120 0:1000, sigma_min FLOAT 0.002 0:1000
ModelComputeDtype -> MODEL
  model MODEL, dtype COMBO default default|fp32|fp16|bf16
ModelMergeSimple -> MODEL
  model1 MODEL, model2 MODEL, ratio FLOAT 1 0:1
DifferentialDiffusion -> MODEL
  model MODEL, strength? FLOAT 1 0:1
RescaleCFG -> MODEL
  model MODEL, multiplier FLOAT 0.7 0:1
CFGNorm -> MODEL
  model MODEL, strength FLOAT 1 0:100, pre_cfg? BOOLEAN false
FreeU_V2 -> MODEL
  model MODEL, b1 FLOAT 1.3 0:10, b2 FLOAT 1.4 0:10, s1 FLOAT 0.9 0:10, s2 FLOAT 0.2 0:10
PerturbedAttentionGuidance -> MODEL
  model MODEL, scale FLOAT 3 0:100
SelfAttentionGuidance -> MODEL
  model MODEL, scale FLOAT 0.5 -2:5, blur_sigma FLOAT 2 0:10
SkipLayerGuidanceDiT -> MODEL
  model MODEL, double_layers STRING, single_layers STRING, scale FLOAT 3 0:10, start_percent FLOAT 0.01 0:1,
  end_percent FLOAT 0.15 0:1, rescaling_scale FLOAT 0 0:10
PatchModelAddDownscale -> MODEL
  model MODEL, block_number INT 3 1:32, downscale_factor FLOAT 2 0.1:9, start_percent FLOAT 0 0:1,
  end_percent FLOAT 0.35 0:1, downscale_after_skip BOOLEAN true, downscale_method COMBO, upscale_method COMBO
HyperTile -> MODEL
  model MODEL, tile_size INT 256 1:2048, swap_size INT 2 1:128, max_depth INT 0 0:10, scale_depth BOOLEAN false
TorchCompileModel -> MODEL
  model MODEL, backend COMBO inductor inductor|cudagraphs
VideoLinearCFGGuidance -> MODEL
  model MODEL, min_cfg FLOAT 1 0:100
QwenImageDiffsynthControlnet -> MODEL
  model MODEL, model_patch MODEL_PATCH, vae VAE, image IMAGE, strength FLOAT 1 -10:10, mask? MASK
"""

CONDITIONING = """
CLIPTextEncode -> CONDITIONING
  text STRING, clip CLIP
CLIPTextEncodeSDXL -> CONDITIONING
  clip CLIP, width INT 1024 0:16384, height INT 1024 0:16384, crop_w INT 0 0:16384, crop_h INT 0 0:16384,
  target_width INT 1024 0:16384, target_height INT 1024 0:16384, text_g STRING, text_l STRING
CLIPTextEncodeSDXLRefiner -> CONDITIONING
  ascore FLOAT 6 0:1000, width INT 1024 0:16384, height INT 1024 0:16384, text STRING, clip CLIP
CLIPTextEncodeFlux -> CONDITIONING
  clip CLIP, clip_l STRING, t5xxl STRING, guidance FLOAT 3.5 0:100
TextEncodeZImageOmni -> CONDITIONING
  clip CLIP, prompt STRING, auto_resize_images BOOLEAN true, image_encoder? CLIP_VISION, vae? VAE, image1? IMAGE,
  image2? IMAGE, image3? IMAGE
FluxGuidance -> CONDITIONING
  conditioning CONDITIONING, guidance FLOAT 3.5 0:100
ConditioningZeroOut -> CONDITIONING
  conditioning CONDITIONING
ConditioningCombine -> CONDITIONING
  conditioning_1 CONDITIONING, conditioning_2 CONDITIONING
ConditioningConcat -> CONDITIONING
  conditioning_to CONDITIONING, conditioning_from CONDITIONING
ConditioningAverage -> CONDITIONING
  conditioning_to CONDITIONING, conditioning_from CONDITIONING, conditioning_to_strength FLOAT 1 0:1
ConditioningSetTimestepRange -> CONDITIONING
  conditioning CONDITIONING, start FLOAT 0 0:1, end FLOAT 1 0:1
ControlNetApply -> CONDITIONING
  conditioning CONDITIONING, control_net CONTROL_NET, image IMAGE, strength FLOAT 1 0:10
ControlNetApplyAdvanced -> CONDITIONING, CONDITIONING
  positive CONDITIONING, negative CONDITIONING, control_net CONTROL_NET, image IMAGE, strength FLOAT 1 0:10,
  start_percent FLOAT 0 0:1, end_percent FLOAT 1 0:1, vae? VAE
ControlNetApplySD3 -> CONDITIONING, CONDITIONING
  positive CONDITIONING, negative CONDITIONING, control_net CONTROL_NET, vae VAE, image IMAGE,
  strength FLOAT 1 0:10, start_percent FLOAT 0 0:1, end_percent FLOAT 1 0:1
SetUnionControlNetType -> CONTROL_NET
  control_net CONTROL_NET, type COMBO auto
InpaintModelConditioning -> CONDITIONING, CONDITIONING, LATENT
  positive CONDITIONING, negative CONDITIONING, vae VAE, pixels IMAGE, mask MASK, noise_mask BOOLEAN true
CLIPVisionEncode -> CLIP_VISION_OUTPUT
  clip_vision CLIP_VISION, image IMAGE, crop COMBO center center|none
unCLIPConditioning -> CONDITIONING
  conditioning CONDITIONING, clip_vision_output CLIP_VISION_OUTPUT, strength FLOAT 1 -10:10,
  noise_augmentation FLOAT 0 0:1
SVD_img2vid_Conditioning -> CONDITIONING, CONDITIONING, LATENT
  clip_vision CLIP_VISION, init_image IMAGE, vae VAE, width INT 1024 16:16384, height INT 576 16:16384,
  video_frames INT 14 1:4096, motion_bucket_id INT 127 1:1023, fps INT 6 1:1024, augmentation_level FLOAT 0 0:10
LotusConditioning -> CONDITIONING
PiDConditioning -> CONDITIONING
  positive CONDITIONING, latent LATENT, latent_format COMBO flux, degrade_sigma FLOAT 0 0:1
"""

SAMPLING = """
KSampler -> LATENT
  model MODEL, seed SEED, steps INT 20 1:10000, cfg FLOAT 8 0:100, sampler_name SAMPLER_NAME,
  scheduler SCHEDULER_NAME, positive CONDITIONING, negative CONDITIONING, latent_image LATENT, denoise FLOAT 1 0:1
KSamplerAdvanced -> LATENT
  model MODEL, add_noise COMBO enable enable|disable, noise_seed SEED, steps INT 20 1:10000, cfg FLOAT 8 0:100,
  sampler_name SAMPLER_NAME, scheduler SCHEDULER_NAME, positive CONDITIONING, negative CONDITIONING,
  latent_image LATENT, start_at_step INT 0 0:10000, end_at_step INT 10000 0:10000,
  return_with_leftover_noise COMBO disable disable|enable
SamplerCustom -> LATENT, LATENT
  model MODEL, add_noise BOOLEAN true, noise_seed SEED, cfg FLOAT 8 0:100, positive CONDITIONING,
  negative CONDITIONING, sampler SAMPLER, sigmas SIGMAS, latent_image LATENT
SamplerCustomAdvanced -> LATENT, LATENT
  noise NOISE, guider GUIDER, sampler SAMPLER, sigmas SIGMAS, latent_image LATENT
KSamplerSelect -> SAMPLER
  sampler_name SAMPLER_NAME
SamplerEulerAncestral -> SAMPLER
  eta FLOAT 1 0:100, s_noise FLOAT 1 0:100
SamplerDPMPP_2M_SDE -> SAMPLER
  solver_type COMBO midpoint midpoint|heun, eta FLOAT 1 0:100, s_noise FLOAT 1 0:100, noise_device COMBO gpu gpu|cpu
BasicScheduler -> SIGMAS
  model MODEL, scheduler SCHEDULER_NAME, steps INT 20 1:10000, denoise FLOAT 1 0:1
SDTurboScheduler -> SIGMAS
  model MODEL, steps INT 1 1:10, denoise FLOAT 1 0:1
BetaSamplingScheduler -> SIGMAS
  model MODEL, steps INT 20 1:10000, alpha FLOAT 0.6 0:50, beta FLOAT 0.6 0:50
KarrasScheduler -> SIGMAS
  steps INT 20 1:10000, sigma_max FLOAT 14.614642 0:5000, sigma_min FLOAT 0.0291675 0:5000, rho FLOAT 7 0:100
ExponentialScheduler -> SIGMAS
  steps INT 20 1:10000, sigma_max FLOAT 14.614642 0:5000, sigma_min FLOAT 0.0291675 0:5000
SplitSigmas -> SIGMAS, SIGMAS
  sigmas SIGMAS, step INT 0 0:10000
SetFirstSigma -> SIGMAS
  sigmas SIGMAS, sigma FLOAT 136 0:20000
BasicGuider -> GUIDER
  model MODEL, conditioning CONDITIONING
CFGGuider -> GUIDER
  model MODEL, positive CONDITIONING, negative CONDITIONING, cfg FLOAT 8 0:100
RandomNoise -> NOISE
  noise_seed SEED
DisableNoise -> NOISE
"""

LATENTS = """
EmptyLatentImage -> LATENT
  width INT 512 16:16384, height INT 512 16:16384, batch_size INT 1 1:4096
EmptySD3LatentImage -> LATENT
  width INT 1024 16:16384, height INT 1024 16:16384, batch_size INT 1 1:4096
EmptyChromaRadianceLatentImage -> LATENT
  width INT 1024 16:16384, height INT 1024 16:16384, batch_size INT 1 1:4096
LatentUpscale -> LATENT
  samples LATENT, upscale_method COMBO, width INT 512 0:16384, height INT 512 0:16384,
  crop COMBO disabled disabled|center
LatentUpscaleBy -> LATENT
  samples LATENT, upscale_method COMBO, scale_by FLOAT 1.5 0.01:8
LatentComposite -> LATENT
  samples_to LATENT, samples_from LATENT, x INT 0 0:16384, y INT 0 0:16384, feather INT 0 0:16384
LatentFromBatch -> LATENT
  samples LATENT, batch_index INT 0 -16384:16384, length INT 1 1:64
RepeatLatentBatch -> LATENT
  samples LATENT, amount INT 1 1:64
SetLatentNoiseMask -> LATENT
  samples LATENT, mask MASK
VAEDecode -> IMAGE
  samples LATENT, vae VAE
VAEDecodeTiled -> IMAGE
  samples LATENT, vae VAE, tile_size INT 512 64:4096, overlap INT 64 0:4096, temporal_size INT 64 8:4096,
  temporal_overlap INT 8 4:4096
VAEEncode -> LATENT
  pixels IMAGE, vae VAE
VAEEncodeTiled -> LATENT
  pixels IMAGE, vae VAE, tile_size INT 512 64:4096, overlap INT 64 0:4096, temporal_size INT 64 8:4096,
  temporal_overlap INT 8 4:4096
VAEEncodeForInpaint -> LATENT
  pixels IMAGE, vae VAE, mask MASK, grow_mask_by INT 6 0:64
"""

IMAGES = """
LoadImage -> IMAGE, MASK
  image IMAGE_FILE
LoadImageMask -> MASK
  image IMAGE_FILE, channel COMBO alpha alpha|red|green|blue
LoadImageOutput -> IMAGE, MASK
  image IMAGE_FILE
!SaveImage -> IMAGE
  images IMAGE, filename_prefix STRING ComfyUI
!SaveImageAdvanced -> IMAGE
  images IMAGE, filename_prefix STRING ComfyUI, format COMBO png png|exr, format.bit_depth? COMBO,
  format.input_color_space? COMBO
!PreviewImage -> IMAGE
  images IMAGE
!ImageCompare ->
  compare_view? IMAGECOMPARE, image_a? IMAGE, image_b? IMAGE
ImageScale -> IMAGE
  image IMAGE, upscale_method COMBO, width INT 512 0:16384, height INT 512 0:16384,
  crop COMBO disabled disabled|center
ImageScaleBy -> IMAGE
  image IMAGE, upscale_method COMBO, scale_by FLOAT 1 0.01:8
ImageScaleToTotalPixels -> IMAGE
  image IMAGE, upscale_method COMBO, megapixels FLOAT 1 0.01:16, resolution_steps INT 1 1:256
ImageScaleToMaxDimension -> IMAGE
  image IMAGE, upscale_method COMBO, largest_size INT 512 0:16384
ImageUpscaleWithModel -> IMAGE
  upscale_model UPSCALE_MODEL, image IMAGE
ImageCrop -> IMAGE
  image IMAGE, width INT 512 1:16384, height INT 512 1:16384, x INT 0 0:16384, y INT 0 0:16384
ImageBatch -> IMAGE
  image1 IMAGE, image2 IMAGE
ImageInvert -> IMAGE
  image IMAGE
ImageBlend -> IMAGE
  image1 IMAGE, image2 IMAGE, blend_factor FLOAT 0.5 0:1, blend_mode COMBO normal
ImageBlur -> IMAGE
  image IMAGE, blur_radius INT 1 1:31, sigma FLOAT 1 0.1:10
ImageSharpen -> IMAGE
  image IMAGE, sharpen_radius INT 1 1:31, sigma FLOAT 1 0.1:10, alpha FLOAT 1 0:5
ImageCompositeMasked -> IMAGE
  destination IMAGE, source IMAGE, x INT 0 0:16384, y INT 0 0:16384, resize_source BOOLEAN false, mask? MASK
ImagePadForOutpaint -> IMAGE, MASK
  image IMAGE, left INT 0 0:16384, top INT 0 0:16384, right INT 0 0:16384, bottom INT 0 0:16384,
  feathering INT 40 0:16384
EmptyImage -> IMAGE
  width INT 512 1:16384, height INT 512 1:16384, batch_size INT 1 1:4096, color INT 0 0:16777215
GetImageSize -> INT, INT, INT
  image IMAGE
Canny -> IMAGE
  image IMAGE, low_threshold FLOAT 0.4 0.01:0.99, high_threshold FLOAT 0.8 0.01:0.99
InvertMask -> MASK
  mask MASK
ImageToMask -> MASK
  image IMAGE, channel COMBO red red|green|blue|alpha
MaskToImage -> IMAGE
  mask MASK
GrowMask -> MASK
  mask MASK, expand INT 0 -16384:16384, tapered_corners BOOLEAN true
FeatherMask -> MASK
  mask MASK, left INT 0 0:16384, top INT 0 0:16384, right INT 0 0:16384, bottom INT 0 0:16384
MaskComposite -> MASK
  destination MASK, source MASK, x INT 0 0:16384, y INT 0 0:16384, operation COMBO multiply
SolidMask -> MASK
  value FLOAT 1 0:1, width INT 512 1:16384, height INT 512 1:16384
"""

VALUES = """
PrimitiveInt -> INT
  value INT
PrimitiveFloat -> FLOAT
  value FLOAT
PrimitiveString -> STRING
  value STRING
PrimitiveStringMultiline -> STRING
  value STRING
PrimitiveBoolean -> BOOLEAN
  value BOOLEAN
ResolutionSelector -> INT, INT
  aspect_ratio COMBO, megapixels FLOAT 1 0.1:16, multiple INT 8 8:128
StringConcatenate -> STRING
  string_a STRING, string_b STRING, delimiter STRING
ComfySwitchNode -> *
  switch BOOLEAN, on_false? *, on_true? *
!PreviewAny -> STRING
  source *
"""
