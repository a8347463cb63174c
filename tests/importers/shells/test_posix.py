"""Scripts of POSIX shells, beside the words that bash itself gives to a program."""

import shutil
import subprocess
from pathlib import Path

import pytest

from frisket.importers.base import BadImport
from frisket.importers.shells.posix.script import read_assignments, read_script
from frisket.importers.shells.words import UnreadableScript

SHOW = """
python() { printf '%s\\0' "$@"; printf '\\n\\0'; }
accelerate() { printf '%s\\0' "$@"; printf '\\n\\0'; }
"""
SCRIPTS = {
    "quotes": r"""
python a.py --x="b c" 'd $e' "f \"g\" \$h \\ i" j\ k l'm'"n" "" --y= --z="" 'it'\''s' "a\b" $'q'
""",
    "lines": """
# accelerate launch --not
accelerate launch \\
  --one 1 \\
  train.py --two=2 # behind it
python b.py; python c.py && python d.py || python never.py
true && python e.py
false || python f.py
false && python never.py
""",
    "variables": """
export NAME="my lora" LR=1e-4
DIM=32
OUT="$HOME_OF/${NAME}_x" # a comment
HOME_OF=/data
OUT="$HOME_OF/${NAME}_$DIM"
EMPTY=
WORDS="--a 1  --b 2"
python t.py --lr=$LR --out "$OUT" $WORDS "$WORDS" --e=$EMPTY $EMPTY x"$EMPTY" ${DIM}x${DIM}
DIM+=0
python t.py $DIM ${EMPTY:-"a b"} "${EMPTY:-c d}" ${DIM:-no} ${EMPTY-no} "${DIM:+y z}" ${EMPTY:+no}
unset DIM
""",
    "lists": """
ARGS=(--a "b c" 'd')
ARGS+=(
  --e # said
  "f g"
)
NONE=()
python t.py "${ARGS[@]}" ${ARGS[@]} "${ARGS[*]}" "${NONE[@]}" ${NONE[@]} ${ARGS[1]} "${ARGS[1]}"
ONE="x y"
ALL=("${ARGS[@]}" "$ONE" $ONE)
python t.py "${ALL[@]}" x"${ALL[@]}"y $ARGS
""",
    "conditions": """
A=sdxl; N=16; E=""
if [ "$A" = "sd" ]; then python no.py
elif [[ $A == "sdxl" ]]; then
  SCRIPT=sdxl.py
  if [ $N -gt 8 ] && [ -n "$A" ]; then EXTRA="--big"; else EXTRA="--small"; fi
else SCRIPT=other.py; fi
if [ "$A" = sd ]; then X=1; elif [ "$A" = sdxl ]; then X=2; elif [ $N = 16 ]; then X=3; fi
if [ "$A" = sd ]; then Y=1; elif [ -n "$E" ]; then Y=2; else Y=3; fi
python w.py $X $Y
if [[ $E ]]; then python no.py; fi
if [ -z "$E" ]; then python yes.py; fi
if ! [ $N -eq 16 ]; then python no.py; else python also.py; fi
[ "$A" != "sd" ] && MORE="--more"
[ $N -lt 8 ] && MORE="--never"
[ $N -ge 16 ] || MORE="--never"
python $SCRIPT $EXTRA $MORE
""",
    "redirections": """
cat > /dev/null <<END
python never.py $X
END
cat <<'STOP' > /dev/null
  python never.py
STOP
python t.py --a 1 2>&1 | cat
python t.py --b 2 2> /dev/null
python t.py --d "a > b" '<' | cat
""",
    "eval": """
NAME="a b"
CMD="python t.py --name \\"$NAME\\" --x 1"
eval $CMD
RUN="python t.py --y"
$RUN 2
""",
    "functions": """
train() {
  python t.py --inside
}
train
{ python u.py; }
""",
}


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash to compare with")
@pytest.mark.parametrize("name", SCRIPTS)
def test_words_are_those_bash_gives(tmp_path: Path, name: str) -> None:
    told = subprocess.run(
        ["bash", "-c", SHOW + SCRIPTS[name]], capture_output=True, check=False, cwd=tmp_path
    ).stdout.decode()
    wanted = [row.split("\0")[:-1] for row in told.split("\n\0")[:-1]]
    commands = read_script(SCRIPTS[name]).commands
    found = [
        [word.text for word in command.words[1:]]
        for command in commands
        if command.words[0].text in ("python", "accelerate")
    ]
    assert found == wanted


ENVIRONMENT = r"""
# settings
export MODEL_TYPE='lora'
LEARNING_RATE=1e-4 #@param {type:"number"}
  export STEPS=1000   # a thousand
QUOTED="a # no comment"
PLAIN=a#b
BASE=/data
FOLDER="$BASE/set"; OTHER=${BASE}/x
MISSING=$NOWHERE_AT_ALL/y
LIST="--a=1 --b"
LIST="$LIST --c"
EMPTY=
SINGLE='$BASE'
ESCAPED="say \"hi\""
LONG="one \
two"
BACK=C:\\data
#OFF=1
export ALSO
NUMBER=2; LAST="x"y'z'
"""


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash to compare with")
def test_variables_are_those_a_shell_is_left_with(tmp_path: Path) -> None:
    file = tmp_path / "config.env"
    file.write_text(ENVIRONMENT)
    run = ["env", "-i", "bash", "--noprofile", "--norc", "-c", 'set -a; . "$1"; env -0', "-", file]
    told = subprocess.run(run, capture_output=True, check=True).stdout.decode()
    ours = {"_", "PWD", "SHLVL", "OLDPWD", "PATH"}
    wanted = dict(row.split("=", 1) for row in told.split("\0") if row)
    written = read_assignments(file)
    assert written.tree == {name: each for name, each in wanted.items() if name not in ours}
    rows = ENVIRONMENT.split("\n")
    assert "LEARNING_RATE" in rows[written.lines[("LEARNING_RATE",)] - 1]


def test_what_a_script_does_not_tell_is_marked() -> None:
    script = """
A=$1
B=$(date +%s)
if [ -f x ]; then C=1; fi
for i in 1 2; do D=$i; done
python t.py "$A" $B --c=$C $D $E $(dirname "$0")/x ~/y
"""
    words = read_script(script).commands[-1].words[2:]
    assert [word.label for word in words[:5]] == ["$1", "$(date +%s)", "--c=$C", "$D", "$E"]
    assert all(word.unknown for word in words[:5])
    assert [word.text for word in words[5:]] == ["./x", "~/y"]


def test_a_command_that_may_run_is_read_and_one_that_cannot_is_not() -> None:
    script = "if [ -d x ]; then python a.py; else python b.py; fi\nif false; then python c.py; fi\n"
    found = [command.words[1].text for command in read_script(script).commands]
    assert found == ["a.py", "b.py"]


def test_a_folder_is_followed() -> None:
    commands = read_script("cd /w/sd-scripts\npython a.py\ncd sub && python b.py\n").commands
    assert [command.folder for command in commands] == ["/w/sd-scripts", "/w/sd-scripts/sub"]


@pytest.mark.parametrize("text", ["a 'b", 'a\nb "c', "x $(y", "x ${y"])
def test_a_quote_that_never_closes_is_told(tmp_path: Path, text: str) -> None:
    with pytest.raises(UnreadableScript, match="never closed") as error:
        read_script(text)
    assert error.value.line == text.count("\n") + 1
    (tmp_path / "a.env").write_text(text)
    with pytest.raises(BadImport, match=r"a\.env line \d"):
        read_assignments(tmp_path / "a.env")
