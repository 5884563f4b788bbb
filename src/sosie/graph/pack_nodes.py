"""The nodes of four packs that character workflows use, in the short form of `notation`.

Facts of their interfaces as a server describes them: cubiq's InstantID and IPAdapter plus, Impact Pack, and
Ultimate SD Upscale.
"""

from __future__ import annotations

_ENDS = "start_at FLOAT 0 0:1, end_at FLOAT 1 0:1"

INSTANTID = f"""
InstantIDModelLoader -> INSTANTID
  instantid_file FILE instantid
InstantIDFaceAnalysis -> FACEANALYSIS
  provider COMBO CPU CPU|CUDA|ROCM|CoreML
FaceKeypointsPreprocessor -> IMAGE
  faceanalysis FACEANALYSIS, image IMAGE
ApplyInstantID -> MODEL, CONDITIONING, CONDITIONING
  instantid INSTANTID, insightface FACEANALYSIS, control_net CONTROL_NET, image IMAGE, model MODEL,
  positive CONDITIONING, negative CONDITIONING, weight FLOAT 0.8 0:5, {_ENDS}, image_kps? IMAGE, mask? MASK
ApplyInstantIDAdvanced -> MODEL, CONDITIONING, CONDITIONING
  instantid INSTANTID, insightface FACEANALYSIS, control_net CONTROL_NET, image IMAGE, model MODEL,
  positive CONDITIONING, negative CONDITIONING, ip_weight FLOAT 0.8 0:3, cn_strength FLOAT 0.8 0:10, {_ENDS},
  noise FLOAT 0 0:1, combine_embeds COMBO average, image_kps? IMAGE, mask? MASK
InstantIDAttentionPatch -> MODEL, FACE_EMBEDS
  instantid INSTANTID, insightface FACEANALYSIS, image IMAGE, model MODEL, weight FLOAT 1 -1:3, {_ENDS},
  noise FLOAT 0 0:1, mask? MASK
ApplyInstantIDControlNet -> CONDITIONING, CONDITIONING
  face_embeds FACE_EMBEDS, control_net CONTROL_NET, image_kps IMAGE, positive CONDITIONING, negative CONDITIONING,
  strength FLOAT 1 0:10, {_ENDS}, mask? MASK
"""

_FACES = "image_negative? IMAGE, attn_mask? MASK, clip_vision? CLIP_VISION, insightface? INSIGHTFACE"
_WEIGHTING = f"weight_type COMBO linear, combine_embeds COMBO concat, {_ENDS}, embeds_scaling COMBO"

IPADAPTER = f"""
IPAdapterModelLoader -> IPADAPTER
  ipadapter_file FILE ipadapter
IPAdapterInsightFaceLoader -> INSIGHTFACE
  provider COMBO CPU CPU|CUDA|ROCM, model_name COMBO buffalo_l buffalo_l|antelopev2
IPAdapterUnifiedLoader -> MODEL, IPADAPTER
  model MODEL, preset COMBO, ipadapter? IPADAPTER
IPAdapterUnifiedLoaderFaceID -> MODEL, IPADAPTER
  model MODEL, preset COMBO, lora_strength FLOAT 0.6 0:1, provider COMBO CPU, ipadapter? IPADAPTER
IPAdapter -> MODEL
  model MODEL, ipadapter IPADAPTER, image IMAGE, weight FLOAT 1 -1:3, {_ENDS}, weight_type COMBO, attn_mask? MASK
IPAdapterAdvanced -> MODEL
  model MODEL, ipadapter IPADAPTER, image IMAGE, weight FLOAT 1 -1:5, {_WEIGHTING}, image_negative? IMAGE,
  attn_mask? MASK, clip_vision? CLIP_VISION
IPAdapterBatch -> MODEL
  model MODEL, ipadapter IPADAPTER, image IMAGE, weight FLOAT 1 -1:5, weight_type COMBO linear, {_ENDS},
  embeds_scaling COMBO, encode_batch_size INT 0 0:4096, image_negative? IMAGE, attn_mask? MASK,
  clip_vision? CLIP_VISION
IPAdapterTiled -> MODEL, IMAGE, MASK
  model MODEL, ipadapter IPADAPTER, image IMAGE, weight FLOAT 1 -1:3, weight_type COMBO linear,
  combine_embeds COMBO concat, {_ENDS}, sharpening FLOAT 0 0:1, embeds_scaling COMBO, image_negative? IMAGE,
  attn_mask? MASK, clip_vision? CLIP_VISION
IPAdapterMS -> MODEL
  model MODEL, ipadapter IPADAPTER, image IMAGE, weight FLOAT 1 -1:5, weight_faceidv2 FLOAT 1 -1:5, {_WEIGHTING},
  layer_weights STRING, {_FACES}
IPAdapterFaceID -> MODEL, IMAGE
  model MODEL, ipadapter IPADAPTER, image IMAGE, weight FLOAT 1 -1:3, weight_faceidv2 FLOAT 1 -1:5, {_WEIGHTING},
  {_FACES}
IPAdapterFaceIDKolors -> MODEL, IMAGE
  model MODEL, ipadapter IPADAPTER, image IMAGE, weight FLOAT 1 -1:3, weight_faceidv2 FLOAT 1 -1:5,
  weight_kolors FLOAT 1 -1:5, {_WEIGHTING}, {_FACES}
IPAdapterEncoder -> EMBEDS, EMBEDS
  ipadapter IPADAPTER, image IMAGE, weight FLOAT 1 -1:3, mask? MASK, clip_vision? CLIP_VISION
IPAdapterEmbeds -> MODEL
  model MODEL, ipadapter IPADAPTER, pos_embed EMBEDS, weight FLOAT 1 -1:3, weight_type COMBO linear, {_ENDS},
  embeds_scaling COMBO, neg_embed? EMBEDS, attn_mask? MASK, clip_vision? CLIP_VISION
PrepImageForClipVision -> IMAGE
  image IMAGE, interpolation COMBO LANCZOS, crop_position COMBO top, sharpening FLOAT 0 0:1
"""

_DRAWING = """seed SEED, steps INT 20 1:10000, cfg FLOAT 8 0:100, sampler_name SAMPLER_NAME,
  scheduler SCHEDULER_NAME"""
_DETAIL = """feather INT 5 0:100, noise_mask BOOLEAN true, force_inpaint BOOLEAN true, bbox_threshold FLOAT 0.5 0:1,
  bbox_dilation INT 10 -512:512, bbox_crop_factor FLOAT 3 1:10, sam_detection_hint COMBO, sam_dilation INT 0 -512:512,
  sam_threshold FLOAT 0.93 0:1, sam_bbox_expansion INT 0 0:1000, sam_mask_hint_threshold FLOAT 0.7 0:1,
  sam_mask_hint_use_negative COMBO, drop_size INT 10 1:16384"""
_GUIDE_SIZE = "guide_size FLOAT 512 64:16384, guide_size_for BOOLEAN true, max_size FLOAT 1024 64:16384"
_DETAIL_END = "inpaint_model? BOOLEAN false, noise_mask_feather? INT 20 0:100, scheduler_func_opt? SCHEDULER_FUNC"

IMPACT = f"""
FaceDetailer -> IMAGE, IMAGE, IMAGE, MASK, DETAILER_PIPE, IMAGE
  image IMAGE, model MODEL, clip CLIP, vae VAE, {_GUIDE_SIZE}, {_DRAWING}, positive CONDITIONING,
  negative CONDITIONING, denoise FLOAT 0.5 0.0001:1, {_DETAIL}, bbox_detector BBOX_DETECTOR, wildcard STRING,
  cycle INT 1 1:10, sam_model_opt? SAM_MODEL, segm_detector_opt? SEGM_DETECTOR, detailer_hook? DETAILER_HOOK,
  {_DETAIL_END}
FaceDetailerPipe -> IMAGE, IMAGE, IMAGE, MASK, DETAILER_PIPE, IMAGE
  image IMAGE, detailer_pipe DETAILER_PIPE, {_GUIDE_SIZE}, {_DRAWING}, denoise FLOAT 0.5 0.0001:1, {_DETAIL},
  refiner_ratio FLOAT 0.2 0:1, cycle INT 1 1:10, {_DETAIL_END}
ToBasicPipe -> BASIC_PIPE
  model MODEL, clip CLIP, vae VAE, positive CONDITIONING, negative CONDITIONING
UltralyticsDetectorProvider -> BBOX_DETECTOR, SEGM_DETECTOR
  model_name FILE ultralytics
SAMLoader -> SAM_MODEL
  model_name FILE sams, device_mode COMBO AUTO
"""

_TILES = """mode_type COMBO Linear, tile_width INT 512 64:8192, tile_height INT 512 64:8192, mask_blur INT 8 0:64,
  tile_padding INT 32 0:8192, seam_fix_mode COMBO None, seam_fix_denoise FLOAT 1 0:1, seam_fix_width INT 64 0:8192,
  seam_fix_mask_blur INT 8 0:64, seam_fix_padding INT 16 0:8192, force_uniform_tiles BOOLEAN true,
  tiled_decode BOOLEAN false, batch_size INT 1 1:4096"""

ULTIMATE = f"""
UltimateSDUpscale -> IMAGE
  image IMAGE, model MODEL, positive CONDITIONING, negative CONDITIONING, vae VAE, upscale_by FLOAT 2 0.05:4,
  {_DRAWING}, denoise FLOAT 0.2 0:1, upscale_model UPSCALE_MODEL, {_TILES}
UltimateSDUpscaleNoUpscale -> IMAGE
  upscaled_image IMAGE, model MODEL, positive CONDITIONING, negative CONDITIONING, vae VAE, {_DRAWING},
  denoise FLOAT 0.2 0:1, {_TILES}
"""
