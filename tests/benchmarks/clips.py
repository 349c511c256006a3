"""Makes the clips that are measured on."""

import subprocess
from pathlib import Path

from components.media.ffmpeg import ffmpeg_executable


def write_clip(path: Path, size: str, seconds: int, *encoding: str) -> Path:
    """Encode a moving scene with some grain, as x264 does by default (a key frame every 250) but for `encoding`."""
    scene = f"testsrc2=size={size}:rate=25:duration={seconds},gblur=sigma=2,noise=alls=6:allf=t"
    command = [ffmpeg_executable(), "-v", "error", "-y", "-f", "lavfi", "-i", scene, "-pix_fmt", "yuv420p"]
    subprocess.run([*command, "-c:v", "libx264", "-preset", "veryfast", *encoding, path], check=True)
    return path
