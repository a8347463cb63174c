"""Batch files and PowerShell scripts: the words that a program is given."""

import pytest

from frisket.importers.shells.batch import read_script as read_batch
from frisket.importers.shells.powershell.script import read_script as read_power
from frisket.importers.shells.words import UnreadableScript

BATCH = r"""@echo off
REM accelerate launch --not
:: nor this
set "NAME=my lora"
set DIM=32
set OPTS=--flag --x %DIM%
if "%NAME%"=="my lora" set EXTRA=--yes
if not "%NAME%"=="my lora" (
  set EXTRA=--no
  set MORE=--never
) else (
  set MORE=--more
)
if %DIM% GTR 16 (set BIG=--big) else (set BIG=--small)
cd /d C:\kohya
call accelerate launch --num_cpu_threads_per_process 1 "sdxl_train_network.py" ^
  --output_name="%NAME%" --learning_rate=1e-4 ^
  --optimizer_args "betas=0.9,0.99" weight_decay=0.1 %OPTS% %EXTRA% %MORE% %BIG% ^
  --train_data_dir="D:\my data\x" --sample "say \"hi\"" --here "%~dp0data" > log.txt 2>&1
echo done & pause
"""


def test_a_batch_file() -> None:
    commands = read_batch(BATCH)
    launch = next(each for each in commands if each.words[0].text == "accelerate")
    assert [word.text for word in launch.words[4:]] == [
        *("sdxl_train_network.py", "--output_name=my lora", "--learning_rate=1e-4"),
        *("--optimizer_args", "betas=0.9,0.99", "weight_decay=0.1", "--flag", "--x", "32"),
        *("--yes", "--more", "--big", r"--train_data_dir=D:\my data\x", "--sample", 'say "hi"'),
        *("--here", "./data"),
    ]
    assert launch.folder == r"C:\kohya"
    lines = {word.text: word.line for word in launch.words}
    assert lines["accelerate"] == 16
    assert lines["--learning_rate=1e-4"] == 17
    assert lines["--more"] == 18


def test_what_a_batch_file_does_not_tell() -> None:
    text = 'set /p NAME=Name?\nif exist x set A=1\npython t.py --n "%NAME%" %1 %A% %PATH%\n'
    words = read_batch(text)[-1].words[2:]
    assert [word.label for word in words] == ["--n", "%name%", "%1", "%a%", "%PATH%"]
    assert [bool(word.unknown) for word in words] == [False, True, True, True, True]


POWER = """# train
<# accelerate launch --not #>
$name = "my lora"   # a name
$dim = 32
$scale = 1.0
$rate = "2e-4"
$off = $False
$empty = ""
$Env:HF_HOME = "x"
$ext = [System.Collections.ArrayList]::new()
$script = if ($off) { "train_network.py" } else { "sdxl_train_network.py" }
if ($name -eq "MY LORA" -and $dim -gt 16) { [void]$ext.Add("--big") }
elseif ($dim) { [void]$ext.Add("--never") }
if ($off -or $empty) { [void]$ext.Add("--never") }
if (-not $off) { $ext.Add("--dim=$dim") | Out-Null }
if (!($name -ilike "your*")) { [void]$ext.Add("--name=" + $name) }
if ($scale -ne 1) { [void]$ext.Add("--never") }
if ($missing) { [void]$ext.Add("--never") }
foreach ($each in $ext) { Write-Output $each }
$ext += @("--a", 'b $c')
Set-Location "D:\\work"
python -m accelerate.commands.launch "./$script" `
  --learning_rate=$rate --scale=$scale `
  --out="$name/$(1)x" --esc="a `"b`" `$c" $empty --empty=$empty $ext
& "accelerate" launch train_network.py @ext
"""


def test_a_powershell_script() -> None:
    first, second = read_power(POWER)[-2:]
    ext = ["--big", "--dim=32", "--name=my lora", "--a", "b $c"]
    assert [word.text for word in first.words[3:]] == [
        *("./sdxl_train_network.py", "--learning_rate=2e-4", "--scale=1", "--out=my lora/1x"),
        *('--esc=a "b" $c', "--empty=", *ext),
    ]
    assert first.folder == "D:\\work"
    assert [word.text for word in second.words] == [
        "accelerate",
        "launch",
        "train_network.py",
        *ext,
    ]
    lines = {word.text: word.line for word in first.words}
    assert POWER.split("\n")[lines["--scale=1"] - 1].strip().startswith("--learning_rate")


def test_what_a_powershell_script_does_not_tell() -> None:
    text = (
        "$a = Get-Date\n$b = $Env:NAME\nif (Test-Path x) { $c = 1 }\npython t.py $a $b $c $args\n"
    )
    words = read_power(text)[-1].words[2:]
    assert all(word.unknown for word in words)
    assert len(words) == 4


@pytest.mark.parametrize("text", ['$a = "b', "python 'x", '@("a'])
def test_a_quote_that_never_closes_is_told(text: str) -> None:
    with pytest.raises(UnreadableScript, match="never closed"):
        read_power(text)
