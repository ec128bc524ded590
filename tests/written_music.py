"""Random scores as MusicXML and, made beside them and not read from them, the notes that a player plays."""

import io
import random
import zipfile
from fractions import Fraction

STEPS = {0: "C", 2: "D", 4: "E", 5: "F", 7: "G", 9: "A", 11: "B"}


def pitch_xml(pitch, rng=None):
    """<pitch> of a MIDI pitch: a natural, or an alteration of one, sharp or flat."""
    alters = [a for a in (-1, 0, 1) if (pitch - a) % 12 in STEPS]
    alter = rng.choice(alters) if rng else min(alters, key=abs)
    octave, step = divmod(pitch - alter, 12)
    sign = f"<alter>{alter}</alter>" if alter else ""
    return f"<pitch><step>{STEPS[step]}</step>{sign}<octave>{octave - 1}</octave></pitch>"


def note_xml(what, duration, *, chord=False, voice=1, staff=1, tie="", before="", after=""):
    """A <note>; what: a pitch or 'rest'; tie: 'start', 'stop', both or neither, in one string."""
    body = "<rest/>" if what == "rest" else what if isinstance(what, str) else pitch_xml(what)
    ties = "".join(f'<tie type="{t}"/>' for t in ("stop", "start") if t in tie)
    return (
        f"<note>{before}{'<chord/>' if chord else ''}{body}<duration>{duration}</duration>{ties}"
        f"<voice>{voice}</voice><staff>{staff}</staff>{after}</note>"
    )


def document(parts, head="", timewise=False):
    """MusicXML of {id: [content of each measure]}; head: what stands before the first part."""
    names = "".join(f'<score-part id="{p}"><part-name>{p}</part-name></score-part>' for p in parts)
    measures = {p: [f'<measure number="{i + 1}">{m}</measure>' for i, m in enumerate(ms)] for p, ms in parts.items()}
    if not timewise:
        body = "".join(f'<part id="{p}">{"".join(ms)}</part>' for p, ms in measures.items())
        return f"<score-partwise>{head}<part-list>{names}</part-list>{body}</score-partwise>"
    body = ""
    for i in range(max(map(len, parts.values()))):
        inside = "".join(f'<part id="{p}">{ms[i]}</part>' for p, ms in parts.items() if i < len(ms))
        body += f'<measure number="{i + 1}">{inside}</measure>'
    return f"<score-timewise>{head}<part-list>{names}</part-list>{body}</score-timewise>"


def packed(files, container=None):
    """An .mxl archive of {name: text}; container: the name that its container gives."""
    with zipfile.ZipFile(out := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        if container:
            root = f'<container><rootfiles><rootfile full-path="{container}"/></rootfiles></container>'
            archive.writestr("META-INF/container.xml", root)
    return out.getvalue()


def measures_of(note="C", n=4, signs=None, divisions=1):
    """n measures of one whole note each, C D E F ..., with signs {bar: (before, after)}."""
    out = []
    for i in range(n):
        left, right = (signs or {}).get(i, ("", ""))
        first = f"<attributes><divisions>{divisions}</divisions></attributes>" if i == 0 else ""
        out.append(first + left + note_xml(60 + i, 4 * divisions) + right)
    return out


class RandomScore:
    """A score of a few parts, voices, sections and ties: `xml(timewise)`, and `notes`: (onset, length, pitch) played."""

    def __init__(self, seed):
        self.rng = rng = random.Random(seed)
        self.n_parts = rng.randint(1, 3)
        self.divisions = [rng.choice([1, 2, 6, 480, 7]) * 2 for _ in range(self.n_parts)]
        self.transpose = [rng.choice([0, 0, -2, -14, 7]) for _ in range(self.n_parts)]
        self.marks, self.order = self.sections()
        self.length = [Fraction(rng.choice([4, 4, 4, 3, 2])) for _ in self.marks]
        self.written, self.bars = [], []  # (bar, onset, length, pitch) of one stroke each; measures by part
        for p in range(self.n_parts):
            self.bars.append([self.measure(p, i) for i in range(len(self.marks))])

    def sections(self):
        """[(left, right) signs of each bar] and the order in which the bars are played, made section by section."""
        rng, marks, order = self.rng, [], []
        for _ in range(rng.randint(1, 4)):
            body, first = rng.randint(1, 3), len(marks)
            kind = rng.choice(["plain", "repeat", "times", "endings"])
            bars = list(range(first, first + body))
            marks += [["", ""] for _ in bars]
            if kind == "plain":
                order += bars
                continue
            marks[first][0] = '<barline location="left"><repeat direction="forward"/></barline>'
            if kind == "endings":
                for number in ("1", "2"):
                    back = '<repeat direction="backward"/>' if number == "1" else ""
                    marks.append(
                        [
                            f'<barline location="left"><ending number="{number}" type="start"/></barline>',
                            f'<barline location="right"><ending number="{number}" type="stop"/>{back}</barline>',
                        ]
                    )
                order += [*bars, first + body, *bars, first + body + 1]
                continue
            times = rng.randint(2, 4) if kind == "times" else 2
            said = f' times="{times}"' if kind == "times" else ""
            marks[-1][1] = f'<barline location="right"><repeat direction="backward"{said}/></barline>'
            order += bars * times
        return marks, order

    def measure(self, part, bar):
        """Content of a measure: two voices, the second over a backup, chords of which single notes are tied on."""
        rng, divisions = self.rng, self.divisions[part]
        out = [self.attributes(part)] if bar == 0 else []
        if part == 0:
            out.append(self.marks[bar][0])
        for voice in (1, 2)[: rng.randint(1, 2)]:
            if voice == 2:
                back = self.length[bar] * divisions
                out.append(f"<backup><duration>{back}</duration></backup>")
            out += self.voice(part, bar, voice)
        if rng.random() < 0.3:  # a mark past the bar line
            offset = f"<offset>{9 * divisions}</offset>"
            out.append(f"<direction><direction-type><dynamics><p/></dynamics></direction-type>{offset}</direction>")
        return "".join(out) + (self.marks[bar][1] if part == 0 else "")

    def attributes(self, part):
        """<attributes> of a part's first bar."""
        change = f"<transpose><chromatic>{self.transpose[part]}</chromatic></transpose>" if self.transpose[part] else ""
        return f"<attributes><divisions>{self.divisions[part]}</divisions><staves>2</staves>{change}</attributes>"

    def voice(self, part, bar, voice):
        """Notes that fill the bar; the voice wanders between staves, keys of a voice are its own."""
        rng, divisions, at, out, tied = self.rng, self.divisions[part], Fraction(0), [], {}
        while at < self.length[bar]:
            length = min(rng.choice([Fraction(1, 2), Fraction(1), Fraction(2)]), self.length[bar] - at)
            ticks, staff = length * divisions, rng.randint(1, 2)
            if rng.random() < 0.15 and not tied:
                out.append(note_xml("rest", ticks, voice=voice, staff=staff))
                at += length
                continue
            keys = sorted({*tied, *(rng.randint(0, 11) for _ in range(rng.randint(1, 3)))})
            going, last = {}, at + length >= self.length[bar]
            for k, key in enumerate(keys):
                on = not last and rng.random() < 0.3
                pitch = 36 + 24 * voice + key
                tie = ("stop" if key in tied else "") + ("start" if on else "")
                begun = tied.get(key, at)
                if on:
                    going[key] = begun
                else:
                    self.written.append((bar, begun, at + length - begun, pitch + self.transpose[part], part))
                words = "<direction><direction-type><words>x</words></direction-type></direction>" if k == 1 else ""
                out.append(words + note_xml(pitch, ticks, chord=k > 0, voice=voice, staff=staff, tie=tie))
            tied, at = going, at + length
        return out

    def xml(self, timewise=False):
        """The score as MusicXML."""
        return document({f"P{p}": bars for p, bars in enumerate(self.bars)}, timewise=timewise)

    def notes(self):
        """(onset, length, pitch) of every note played, in quarters, sorted."""
        out, at = [], Fraction(0)
        for bar in self.order:
            out += [(at + onset, length, pitch) for b, onset, length, pitch, _ in self.written if b == bar]
            at += self.length[bar]
        return sorted(out)
