"""Any video file, to frames with exact times or to a named refusal."""

import os
import struct
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.errors import InputError
from components.media import ffmpeg, videos
from components.media.pictures import MediaError
from components.media.videos import Sampling, probe, read_frames

ULTRAFAST = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
# Red, green, blue and yellow from the top left, row by row.
QUARTERS = (
    "-f", "lavfi", "-i",
    "color=red:size=48x32:rate=10:duration=1[a];color=lime:size=48x32:rate=10:duration=1[b];"
    "color=blue:size=48x32:rate=10:duration=1[c];color=yellow:size=48x32:rate=10:duration=1[d];"
    "[a][b][c][d]xstack=inputs=4:layout=0_0|w0_0|0_h0|w0_h0",
)  # fmt: skip


def read(path: Path, sampling: str = "even:8") -> tuple[list[float], np.ndarray]:
    """The times, and the frames in one array."""
    times, frames = zip(*read_frames(path, Sampling.parse(sampling)), strict=True)
    return [round(time, 6) for time in times], np.stack(frames)


def quarters(pixels: np.ndarray) -> list[tuple[bool, ...]]:
    """Which channels are bright in the middle of each quarter, row by row."""
    height, width = pixels.shape[:2]
    return [tuple(pixels[y, x] > 110) for y in (height // 4, 3 * height // 4) for x in (width // 4, 3 * width // 4)]


def rotated(path: Path, degrees: int, folder: Path) -> Path:
    """Copy an MP4 with a display matrix that turns it counterclockwise."""
    content = path.read_bytes()
    at = content.index(b"tkhd") + 44
    cos, sin = {90: (0, -1), 180: (-1, 0), 270: (0, 1)}[degrees]
    matrix = struct.pack(">9i", cos << 16, sin << 16, 0, -sin << 16, cos << 16, 0, 0, 0, 1 << 30)
    (folder / "rotated.mp4").write_bytes(content[:at] + matrix + content[at + 36 :])
    return folder / "rotated.mp4"


RED, GREEN, BLUE, YELLOW = (True, False, False), (False, True, False), (False, False, True), (True, True, False)


@pytest.mark.parametrize("text", ["even:8", "even:1", "rate:0.5", "rate:2", "keyframes:16"])
def test_sampling_is_written_as_it_is_read(text):
    assert str(Sampling.parse(text)) == text
    assert str(Sampling.parse(text.partition(":")[0])) in ("even:8", "rate:1", "keyframes:16")


@pytest.mark.parametrize(
    "text", ["", "even:", "even:0", "even:2.5", "even:-1", "rate:0", "often:3", "even:8:1", "rate:1e9"]
)
def test_a_wrong_sampling_is_refused_in_one_line(text):
    with pytest.raises(InputError, match=r"sampling is .* it must be even:N") as caught:
        Sampling.parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "arguments", "codec", "container"),
    [
        ("a.mp4", ULTRAFAST, "h264", "mp4"),
        ("a.mov", ULTRAFAST, "h264", "mp4"),
        ("a.mkv", ULTRAFAST, "h264", "matroska"),
        ("a.ts", ULTRAFAST, "h264", "mpegts"),
        ("a.avi", ("-c:v", "mpeg4", "-q:v", "3"), "mpeg4", "avi"),
        ("a.webm", ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "1M"), "vp9", "matroska"),
        ("hevc.mp4", ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none"), "hevc", "mp4"),
        ("av1.mp4", ("-c:v", "libsvtav1", "-preset", "12"), "av1", "mp4"),
        ("raw.h264", ULTRAFAST, "h264", "h264"),
    ],
)
def test_every_container_and_codec(clip, h264, name, arguments, codec, container):
    path = clip(name, *arguments)
    video = probe(path)
    assert (video.codec, video.format, video.width, video.height) == (codec, container, 160, 96)
    assert video.frame_rate == 25
    times, frames = read(path)
    assert times == [0.16, 0.4, 0.64, 0.88, 1.16, 1.4, 1.64, 1.88]  # the first frame at or after each middle
    assert frames.shape == (8, 96, 160, 3)
    assert np.abs(frames.astype(int) - read(h264)[1]).mean() < 12


def test_times_are_those_of_the_container(clip):
    times, _ = read(clip("ntsc.mkv", "-r", "30000/1001", "-vf", "fps=30000/1001", *ULTRAFAST), "rate:2")
    assert times == [0.0, 0.501, 1.001, 1.502]  # Matroska counts milliseconds
    # Every frame that passes, at its own time: 0, 7, 10, 14, 20, ... twenty-fifths of a second.
    path = clip("vfr.mkv", "-vf", "select='not(mod(n,7))+not(mod(n,10))'", "-fps_mode", "vfr", *ULTRAFAST)
    stored = [n / 25 for n in range(50) if n % 7 == 0 or n % 10 == 0]
    assert read(path, "rate:1000")[0] == stored
    assert read(path, "rate:2")[0] == [0.0, 0.56, 1.12, 1.6]


def test_even_takes_every_frame_of_a_short_clip(clip):
    assert read(clip("one.mp4", "-frames:v", "1", *ULTRAFAST))[0] == [0.0]
    assert read(clip("three.mp4", "-frames:v", "3", *ULTRAFAST))[0] == [0.0, 0.04, 0.08]


def test_keyframes_are_the_frames_stored_whole(clip):
    path = clip("keys.mp4", *ULTRAFAST, "-g", "10", "-keyint_min", "10", "-sc_threshold", "0")
    assert read(path, "keyframes:16")[0] == [0.0, 0.4, 0.8, 1.2, 1.6]
    assert read(path, "keyframes:2")[0] == [0.0, 1.2]


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_by_display_matrix_is_undone(clip, degrees, tmp_path):
    upright = clip("quarters.mp4", *QUARTERS, *ULTRAFAST)
    assert quarters(read(upright)[1][0]) == [RED, GREEN, BLUE, YELLOW]
    turned = rotated(upright, degrees, tmp_path)
    expected = np.rot90([[RED, GREEN], [BLUE, YELLOW]], degrees // 90).reshape(4, 3)
    frame = read(turned)[1][0]
    assert quarters(frame) == [tuple(colour) for colour in expected]
    assert (probe(turned).height, probe(turned).width) == frame.shape[:2]


@pytest.mark.parametrize(("aspect", "size"), [("2/1", (320, 96)), ("1/2", (160, 192)), ("1/1", (160, 96))])
def test_pixels_that_are_not_square_are_drawn_out(clip, aspect, size, tmp_path):
    path = clip(f"sar{aspect[0]}{aspect[2]}.mp4", "-vf", f"setsar={aspect}", *ULTRAFAST)
    assert (probe(path).width, probe(path).height) == size
    assert read(path)[1].shape[1:3] == size[::-1]
    turned = rotated(path, 90, tmp_path)
    assert (probe(turned).height, probe(turned).width) == size
    assert read(turned)[1].shape[1:3] == size


def test_odd_sizes(clip):
    path = clip("odd.mkv", "-f", "lavfi", "-i", "testsrc=size=161x97:rate=10:duration=1", "-c:v", "ffv1")
    assert read(path)[1].shape == (8, 97, 161, 3)


def test_ten_bits(clip, h264):
    frames = read(clip("ten.mp4", "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p10le"))[1]
    assert np.abs(frames.astype(int) - read(h264)[1]).mean() < 4


@pytest.mark.parametrize("transfer", ["smpte2084", "arib-std-b67"])
def test_hdr_is_brought_to_sdr(clip, h264, transfer):
    to_hdr = "setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709:range=tv,zscale=t=linear:npl=100,"
    to_hdr += f"format=gbrpf32le,zscale=p=2020:t={transfer}:m=2020_ncl:r=tv:npl=100"
    colours = f"log-level=none:colorprim=bt2020:transfer={transfer}:colormatrix=bt2020nc"
    path = clip(
        f"{transfer}.mp4", "-vf", f"{to_hdr},format=yuv420p10le", "-c:v", "libx265", "-preset", "ultrafast",
        "-x265-params", colours,
    )  # fmt: skip
    assert probe(path).transfer == transfer
    frames, sdr = read(path)[1].astype(float), read(h264)[1].astype(float)
    # Highlights are pressed, so not equal; but without the mapping, washed out, the correlation is 0.81 and 0.86.
    assert np.corrcoef(frames.ravel(), sdr.ravel())[0, 1] > 0.92


def test_a_cut_off_clip_gives_what_is_there(clip, tmp_path):
    whole = clip("faststart.mp4", *ULTRAFAST, "-movflags", "+faststart").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) * 6 // 10])
    times, frames = read(tmp_path / "cut.mp4")
    assert 2 <= len(times) < 8
    assert times[0] == 0.16
    assert np.array_equal(frames[:2], read(clip("faststart.mp4"))[1][:2])


def test_refusals_by_name(clip, h264, tmp_path):
    content = h264.read_bytes()
    cases = {
        "truncated": content[: len(content) // 2],  # without its index, which this file keeps at the end
        "not media": b"I am no video.\n" * 100,
        "no video frames": clip("audio.m4a", "-f", "lavfi", "-i", "sine=duration=1", "-c:a", "aac").read_bytes(),
    }
    for reason, data in cases.items():
        (tmp_path / "a.mp4").write_bytes(data)
        with pytest.raises(MediaError) as caught:
            list(read_frames(tmp_path / "a.mp4", Sampling()))
        assert caught.value.reason == reason
        assert caught.value.detail
    with pytest.raises(MediaError, match="missing"):
        probe(tmp_path / "absent.mp4")


def test_a_song_with_a_cover_is_no_video(clip, tmp_path):
    Image.new("RGB", (32, 32), "red").save(tmp_path / "cover.png")
    song = clip(
        "song.m4a", "-f", "lavfi", "-i", "sine=duration=1", "-i", tmp_path / "cover.png", "-map", "0", "-map", "1",
        "-c:v", "copy", "-c:a", "aac", "-disposition:v", "attached_pic",
    )  # fmt: skip
    with pytest.raises(MediaError, match="no video frames"):
        probe(song)


def test_hours_are_sought_through_not_decoded(clip, monkeypatch):
    path = clip(
        "hours.mkv", "-f", "lavfi", "-i", "testsrc=size=64x64:rate=1:duration=7200", *ULTRAFAST, "-g", "30"
    )  # fmt: skip
    runs = []
    start = ffmpeg.FFmpeg.__init__

    def counted(self, name, arguments):
        runs.append(arguments)
        start(self, name, arguments)

    monkeypatch.setattr(ffmpeg.FFmpeg, "__init__", counted)
    assert read(path, "even:4")[0] == [900, 2700, 4500, 6300]
    assert all("-ss" in arguments for arguments in runs)
    assert len(runs) == 4  # one for each frame


def test_no_keyframe_for_a_minute(clip):
    path = clip(
        "nokey.mp4", "-f", "lavfi", "-i", "testsrc2=size=64x64:rate=25:duration=90", *ULTRAFAST,
        "-g", "9999", "-keyint_min", "9999", "-sc_threshold", "0",
    )  # fmt: skip
    assert read(path, "even:3")[0] == [15, 45, 75]
    assert read(path, "keyframes:4")[0] == [0.0]


def test_a_container_without_a_duration(clip):
    path = clip("live.webm", "-c:v", "libvpx", "-deadline", "realtime", "-f", "webm", "-live", "1")
    assert probe(path).duration_s is None
    assert read(path)[0] == [0.16, 0.4, 0.64, 0.88, 1.16, 1.4, 1.64, 1.88]


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.avif"])
def test_animated_pictures_are_films(tmp_path, name):
    shades = [Image.new("RGB", (40, 30), (20 * n, 0, 255 - 20 * n)) for n in range(10)]
    shades[0].save(tmp_path / name, save_all=True, append_images=shades[1:], duration=[100, 300] * 5, lossless=True)
    times, frames = read(tmp_path / name, "rate:1000")
    assert times == [0, 0.1, 0.4, 0.5, 0.8, 0.9, 1.2, 1.3, 1.6, 1.7]
    assert [int(frame[5, 5, 0]) for frame in frames] == pytest.approx([20 * n for n in range(10)], abs=12)
    assert read(tmp_path / name, "even:2")[0] == [0.4, 1.3]
    assert read(tmp_path / name, "rate:1")[0] == [0, 1.2]


HOSTILE = [
    "a b.mp4", "it's.mp4", 'say "x".mp4', "two\nlines.mp4", "Ünïcödé-日本.mp4", "-i.mp4", "-y", "%03d.mp4", "a;id.mp4",
    "$(id).mp4", "concat:a|b", "http:x", "pipe:0", "a,b:c=[d].mp4", "\n  Duration: 99:00:00.00, start: 5.0.mp4",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_means_anything(h264, tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(h264.read_bytes())
    assert len(read(Path(name))[0]) == 8
    assert probe(name).duration_s == 2.0
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize(
    "text",
    [
        "ffconcat version 1.0\nfile {}\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{}\n#EXT-X-ENDLIST\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nhttp://127.0.0.1:9/{}\n#EXT-X-ENDLIST\n",
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" mediaPresentationDuration="PT2S">'
        '<Period><AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>{}</BaseURL>'
        "</Representation></AdaptationSet></Period></MPD>",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    ],
)
def test_lists_of_other_files_are_refused(h264, tmp_path, text):
    (tmp_path / "other.mp4").write_bytes(h264.read_bytes())
    for name in ("a.mp4", "a.m3u8", "a.ffconcat", "a.mpd"):
        (tmp_path / name).write_text(text.format(tmp_path / "other.mp4"))
        with pytest.raises(MediaError, match="not media"):
            list(read_frames(tmp_path / name, Sampling()))


def test_metadata_cannot_forge_what_is_parsed(clip):
    forged = "x\n  Duration: 99:00:00.00, start: 0.0\n  Stream #0:0: Video: av1, yuv420p, 9x9"
    forged += "\n[info]   Duration: 99:00:00.00, start: 0.0\n[Parsed_showinfo_0 @ 0x1] [info] n: 0 pts: 7"
    path = clip("forged.mkv", *ULTRAFAST, "-metadata", f"title={forged}", "-metadata:s:v", f"title={forged}")
    video = probe(path)
    assert (video.codec, video.width, video.duration_s) == ("h264", 160, 2.0)
    assert read(path)[0][0] == 0.16


@pytest.mark.parametrize(
    "lines",
    [
        "\n  Duration: 99999999:00:00.00, start: 1.2.3\n",
        "\n[info]   Duration: 00:00:00.04, start: 0.0\n[info]   Stream #0:0: Video: av1, yuv420p, 9x9, 1 fps\n",
        "\n[Parsed_showinfo_3 @ 0x1] [info] n:   0 pts:   9999999\n[showinfo@times @ 0x1] [info] n: 0 pts: 99999\n",
    ],
)
def test_the_name_of_a_tag_cannot_forge_what_is_read(clip, tmp_path, lines):
    """Matroska's names of tags are printed as they are, newlines and all."""
    path = clip("named.mkv", *ULTRAFAST, "-metadata", f"{'K' * 200}=v")
    (tmp_path / "a.mkv").write_bytes(path.read_bytes().replace(b"K" * 200, lines.encode().ljust(200, b"\n")))
    video = probe(tmp_path / "a.mkv")
    assert (video.codec, video.width, video.height, video.frame_rate) == ("h264", 160, 96, 25)
    assert (video.duration_s, video.start_s) == (2.0, 0.0)
    assert read(tmp_path / "a.mkv")[0] == read(path)[0]


@pytest.mark.parametrize("sampling", ["rate:0.05", "even:1000", "keyframes:1000"])
def test_a_false_duration_costs_a_few_seeks_not_millions(clip, tmp_path, sampling):
    content = clip("true.mkv", *ULTRAFAST).read_bytes()
    at = content.index(b"\x44\x89\x88") + 3  # Matroska's Duration: a double, in milliseconds
    (tmp_path / "a.mkv").write_bytes(content[:at] + struct.pack(">d", 9e15) + content[at + 8 :])
    assert read(tmp_path / "a.mkv", sampling)[0] == [0.0]


def test_a_process_that_hangs_is_ended_and_named(h264, tmp_path, monkeypatch):
    stuck = tmp_path / "ffmpeg"
    stuck.write_text(
        f"#!{sys.executable}\nimport os, time\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)\n"
    )
    stuck.chmod(0o755)
    monkeypatch.setattr(ffmpeg, "ffmpeg_executable", lambda: str(stuck))
    monkeypatch.setattr(ffmpeg, "PATIENCE_S", 1.0)
    with pytest.raises(MediaError, match="too slow"):
        read(h264)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_loud_process_does_not_block(h264, tmp_path, monkeypatch):
    loud = tmp_path / "ffmpeg"
    loud.write_text(
        f"#!{sys.executable}\nimport sys\nfor _ in range(20000):\n    print('[error] ' + 'x' * 80, file=sys.stderr)\n"
    )
    loud.chmod(0o755)
    monkeypatch.setattr(ffmpeg, "ffmpeg_executable", lambda: str(loud))
    with pytest.raises(MediaError, match="no video frames: xxx"):
        read(h264)


def test_leaving_early_leaves_nothing_behind(h264):
    before = threading.active_count(), len(os.listdir("/dev/fd"))
    for _ in range(5):
        frames = read_frames(h264, Sampling.parse("rate:25"))
        next(frames)
        frames.close()
    assert (threading.active_count(), len(os.listdir("/dev/fd"))) == before
    children = subprocess.run(["ps", "-o", "stat=", "--ppid", str(os.getpid())], capture_output=True, text=True).stdout
    assert "Z" not in children


def test_the_first_frame_of_a_clip_with_a_false_duration(clip, tmp_path):
    content = clip("true.mkv", *ULTRAFAST).read_bytes()
    at = content.index(b"\x44\x89\x88") + 3  # Matroska's Duration: a double, in milliseconds
    (tmp_path / "a.mkv").write_bytes(content[:at] + struct.pack(">d", 1e9) + content[at + 8 :])
    assert probe(tmp_path / "a.mkv").duration_s == 1e6
    assert read(tmp_path / "a.mkv")[0] == [0.0]


def test_memory_does_not_grow_with_the_length(clip):
    path = clip("long.mp4", "-f", "lavfi", "-i", "testsrc2=size=640x360:rate=25:duration=12", *ULTRAFAST)
    code = (
        "import resource, sys\nfrom components.media.videos import *\n"
        "n = sum(1 for _ in read_frames(sys.argv[1], Sampling.parse(sys.argv[2])))\n"
        "print(n, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
    )
    peaks = {}
    for sampling in ("rate:1", "rate:25"):
        done = subprocess.run(
            [sys.executable, "-c", code, str(path), sampling],
            cwd=Path(__file__).resolve().parents[2], capture_output=True, text=True, check=True,
        )  # fmt: skip
        count, peaks[sampling] = (int(word) for word in done.stdout.split())
        assert count == (12 if sampling == "rate:1" else 300)
    assert peaks["rate:25"] < peaks["rate:1"] + 40  # 300 frames would be 207 MB


def test_the_real_clips(shared):
    for name in ("again.mkv", "bird.mkv", "car-detection.mp4"):
        times, frames = read(shared / "clips" / name)
        assert len(times) == 8
        assert times == sorted(set(times))
        assert frames.std() > 20
    assert videos.probe(shared / "clips" / "car-detection.mp4").frame_rate == 12.5


def test_a_process_that_crashes_is_named(h264, tmp_path, monkeypatch):
    crash = tmp_path / "ffmpeg"
    crash.write_text("#!/bin/sh\nkill -SEGV $$\n")
    crash.chmod(0o755)
    monkeypatch.setattr(ffmpeg, "ffmpeg_executable", lambda: str(crash))
    with pytest.raises(MediaError, match="unreadable: FFmpeg was ended by signal 11"):
        read(h264)


def test_the_environment_does_not_disturb(h264, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AV_LOG_FORCE_COLOR", "1")
    monkeypatch.setenv("FFREPORT", "file=report.log")
    assert len(read(h264)[0]) == 8
    assert os.listdir(tmp_path) == []
