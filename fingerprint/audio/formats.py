"""Allow-lists of containers, codecs and file suffixes. Everything else is refused.

FFmpeg reads far more than recordings: playlists that name other files, network descriptions,
images, game data. PyAV and the ffmpeg program get these lists, by which they refuse a container or
a codec before they parse its content.
"""

from pathlib import PurePath

# FFmpeg's name of a container, and the suffixes of its files.
CONTAINERS: dict[str, tuple[str, ...]] = {
    "aac": (".aac", ".adts"),
    "ac3": (".ac3",),
    "aiff": (".aif", ".aiff", ".aifc", ".afc"),
    "amr": (".amr",),
    "amrnb": (),
    "amrwb": (".awb",),
    "ape": (".ape", ".apl"),
    "asf": (".wma", ".wmv", ".asf"),
    "au": (".au", ".snd"),
    "avi": (".avi", ".divx"),
    "caf": (".caf",),
    "dsf": (".dsf",),
    "dts": (".dts",),
    "dtshd": (".dtshd",),
    "eac3": (".eac3", ".ec3"),
    "flac": (".flac", ".fla"),
    "flv": (".flv", ".f4a"),
    "gsm": (".gsm",),
    "iff": (".dff", ".8svx"),
    "loas": (".loas", ".latm"),
    "matroska": (".mkv", ".mka", ".mk3d", ".webm", ".weba"),
    "mov": (
        *(".mp4", ".m4a", ".m4b", ".m4p", ".m4r", ".m4v", ".mov", ".qt", ".f4v", ".aax"),
        *(".3gp", ".3g2", ".3gpp", ".ism", ".isma", ".ismv"),
    ),
    "mp3": (".mp3", ".mp2", ".mp1", ".mpa", ".m2a", ".mpga"),
    "mpc": (".mpc",),
    "mpc8": (".mp+", ".mpp"),
    "mpeg": (".mpg", ".mpeg", ".vob", ".m2p", ".vdr"),
    "mpegts": (".ts", ".mts", ".m2ts", ".m2t", ".trp"),
    "ogg": (".ogg", ".oga", ".ogv", ".ogx", ".ogm", ".opus", ".spx"),
    "rm": (".rm", ".ra", ".rmvb"),
    "shn": (".shn",),
    "tak": (".tak",),
    "truehd": (".thd",),
    "mlp": (".mlp",),
    "tta": (".tta",),
    "voc": (".voc",),
    "w64": (".w64",),
    "wav": (".wav", ".wave", ".bwf", ".rf64", ".rifx"),
    "wsd": (".wsd",),
    "wv": (".wv",),
    "xwma": (".xwma",),
}
# Suffixes of the files that libsndfile reads, without FFmpeg.
SNDFILE_SUFFIXES = frozenset(
    {".wav", ".wave", ".bwf", ".rf64", ".w64", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf"}
    | {".flac", ".ogg", ".oga", ".opus", ".mp3", ".mpga"}
)
AUDIO_SUFFIXES = SNDFILE_SUFFIXES.union(*CONTAINERS.values())


def suffix_of(path: PurePath) -> str:
    """The suffix of a file's name in lower case, without spaces behind it, as in "song.wav "."""
    return path.suffix.rstrip().lower()


_CODECS = """
    8svx_exp 8svx_fib aac aac_latm ac3 adpcm_ct adpcm_g722 adpcm_g726 adpcm_g726le adpcm_ima_qt
    adpcm_ima_wav adpcm_ms adpcm_sbpro_2 adpcm_sbpro_3 adpcm_sbpro_4 adpcm_swf adpcm_yamaha alac
    als amrnb amrwb ape atrac1 atrac3 atrac3al atrac3plus atrac3plusal cook dca dsd_lsbf
    dsd_lsbf_planar dsd_msbf dsd_msbf_planar dst eac3 flac g722 g726 g726le gsm gsm_ms iac ilbc
    libopencore_amrnb libopencore_amrwb libopus mace3 mace6 mlp mp1 mp1float mp2 mp2float mp3
    mp3adu mp3adufloat mp3float mp3on4 mp3on4float mpc7 mpc8 nellymoser opus pcm_alaw pcm_bluray
    pcm_dvd pcm_f16le pcm_f24le pcm_f32be pcm_f32le pcm_f64be pcm_f64le pcm_mulaw pcm_s16be
    pcm_s16be_planar pcm_s16le pcm_s16le_planar pcm_s24be pcm_s24le pcm_s24le_planar pcm_s32be
    pcm_s32le pcm_s32le_planar pcm_s64be pcm_s64le pcm_s8 pcm_s8_planar pcm_u16be pcm_u16le
    pcm_u24be pcm_u24le pcm_u32be pcm_u32le pcm_u8 qcelp qdm2 qdmc ralf real_144 real_288 s302m
    shorten sipr speex tak truehd truespeech tta vorbis wavpack wmalossless wmapro wmav1 wmav2
    wmavoice
"""
CODECS = frozenset(_CODECS.split())
FORMAT_WHITELIST = ",".join(CONTAINERS)
CODEC_WHITELIST = ",".join(sorted(CODECS))
