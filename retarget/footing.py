"""Where feet stand, and hands, elbows and knees rest, and targets that hold them still there.

A person's foot that stands must not slide on the robot either. What stands is read off the targets' own soles: low and
slow, with hysteresis, so that noise at a threshold makes no contact come and go. A standing heel or toe gets one place of the
floor, a foot on both is level, and between its holds a foot swings as the person's does.
"""

# Warp's annotations are for its own compiler; to a type checker they are calls and its scalars are not what they seem.
# pyright: reportInvalidTypeForm=false, reportArgumentType=false, reportCallIssue=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false, reportAttributeAccessIssue=false, reportIndexIssue=false, reportReturnType=false

from dataclasses import dataclass, replace

import numpy as np
import warp as wp
from jaxtyping import Bool, Float

from corpus.posture import FAR, GROUND_POINTS, Postures
from corpus.robot import Robot
from corpus.warp_tools import from_rotation_vector, multiply, rotate, rotation_vector, view
from retarget.ground import balls_of, lowest_of
from retarget.solver import Targets


@dataclass(frozen=True)
class FootingOptions:
    low: float = 0.035
    """A heel or toe lower than this may begin to stand [m]."""
    high: float = 0.06
    """… and one higher than this stands no more [m]."""
    slow: float = 0.3
    """A heel or toe slower than this may begin to stand [m/s]; the field's bound is 0.4."""
    fast: float = 0.6
    """… and one faster than this stands no more [m/s]."""
    drift: float = 0.02
    """A heel or toe that creeps further than this from where its stand began leaves it, and may begin another one [m]."""
    shortest_s: float = 0.08
    """Contacts shorter than this are none, and gaps between contacts shorter than this are no gaps [s]."""
    lead_s: float = 0.4
    """Over this time a swinging foot leaves its last hold, and comes to the next one, at most [s]."""
    level_s: float = 0.16
    """A foot levels out, or rolls off, over this time [s]."""
    hold_weight: float = 8.0
    """How many times more the place of a standing foot counts than that of a swinging one."""
    rest_weight: float = 3.0
    """How many times more the place of a hand, elbow or knee that rests on the floor counts than otherwise."""
    level_weight: float = 7.0
    """How many times more the orientation of a foot on heel and toe counts than that of others."""


def hold_feet(
    targets: Targets, robot: Robot, fps: float, found: Postures, options: FootingOptions = FootingOptions()
) -> tuple[Targets, Bool[np.ndarray, "T 4"]]:
    """Targets that hold what stands where `found`, a first solution of the same frames, has it: what the robot reaches.

    Also gives whether the person's left heel, left toe, right heel, right toe (`GROUND_POINTS`) stand.
    """
    frame_count, shape = targets.frame_count, targets.position.shape[:2]
    position, rotation = targets.position.copy(), targets.rotation.copy()
    weights = [
        np.array(np.broadcast_to(w, shape), np.float32) for w in (targets.position_weight, targets.rotation_weight)
    ]
    frames = [max(1, round(seconds * fps)) for seconds in (options.shortest_s, options.lead_s, options.level_s)]
    limits = wp.vec4d(options.low, options.high, options.slow / fps, options.fast / fps)
    stands = []
    for side in range(2):
        foot, heel = _end(targets, robot, GROUND_POINTS[2 * side])
        _, toe = _end(targets, robot, GROUND_POINTS[2 * side + 1])
        sole = np.concatenate([robot.ground_points[GROUND_POINTS[2 * side + end]][1] for end in range(2)])
        ends = [found.soles[:, found.sole_group == group].mean(1).T for group in (2 * side, 2 * side + 1)]
        place, turn = position[:, foot].copy(), rotation[:, foot].astype(np.float64)
        own, share = np.zeros((frame_count, 2), np.int32), np.empty((frame_count, 2))
        anchors = wp.empty((frame_count, 2), dtype=wp.vec3d, device="cpu")
        flags = wp.empty((frame_count, 2), dtype=int, device="cpu")
        wp.launch(
            _hold,
            dim=len(targets.starts),
            inputs=[
                view(targets.starts, int), view(targets.stops, int), wp.vec3d(*heel), wp.vec3d(*toe), view(sole, wp.vec3d), limits,
                options.drift, *frames, view(np.stack(ends, 1), wp.vec3d),
            ],
            outputs=[
                view(place, wp.vec3d), view(turn, wp.vec4d), view(own, int), view(share, wp.float64), anchors, flags,
                wp.empty(frame_count, dtype=wp.vec3d, device="cpu"),
            ],
            device="cpu",
        )  # fmt: skip
        position[:, foot], rotation[:, foot] = place, turn
        for weight, more, column in zip(weights, (options.hold_weight, options.level_weight), range(2), strict=True):
            weight[:, foot] *= 1 + (more - 1) * share[:, column]
        stands.append(own)
    held = replace(
        targets, position=position, rotation=rotation, position_weight=weights[0], rotation_weight=weights[1]
    )
    return held, np.concatenate(stands, 1).astype(bool)


def hold_limbs(targets: Targets, robot: Robot, fps: float, options: FootingOptions = FootingOptions()) -> Targets:
    """Targets that hold hands, elbows and knees where they rest on the floor: what was low and slow stays where it was on
    average, and comes and goes over `lead_s`; heights are left alone.

    Only who is low with such a part can rest on it; all others' targets are given back as they are.
    """
    feet = {robot.body(body) for body, _ in robot.ground_points.values()}
    shape = targets.position.shape[:2]
    position, weight = targets.position, targets.position_weight
    limits = wp.vec4d(options.low, options.high, options.slow / fps, options.fast / fps)
    frames = [max(1, round(seconds * fps)) for seconds in (options.shortest_s, options.lead_s, options.level_s)]
    for target, body in enumerate(targets.bodies):
        balls = balls_of(robot, body)
        if body == 0 or body in feet or balls is None or not np.any(targets.position_weight[..., target]):
            continue
        near = targets.position[:, target, 2] < options.low + REACH
        if not near.any():
            continue
        spots = targets.position[:, target].copy()
        spots[:, 2] = FAR
        spots[near, 2] = lowest_of(targets.position[near, target], targets.rotation[near, target], *balls)
        shift, share = np.zeros_like(spots), np.zeros((len(spots), 2))
        flags = wp.zeros((len(spots), 2), dtype=int, device="cpu")
        wp.launch(
            _rest,
            dim=len(targets.starts),
            inputs=[
                view(targets.starts, int), view(targets.stops, int), limits, options.drift, *frames,
                view(spots, wp.vec3d), view(np.tile([1.0, 0, 0, 0], (len(spots), 1)), wp.vec4d),
            ],
            outputs=[flags, view(shift, wp.vec3d), view(share, wp.float64)],
            device="cpu",
        )  # fmt: skip
        if share.any():
            if position is targets.position:
                position, weight = position.copy(), np.array(np.broadcast_to(weight, shape), np.float32)
            position[:, target] += shift
            weight[:, target] *= 1 + (options.rest_weight - 1) * share[:, 0]
    return targets if position is targets.position else replace(targets, position=position, position_weight=weight)


REACH = 0.25
"""What a target may lie above the lowest point of its body [m]."""


def _end(targets: Targets, robot: Robot, name: str) -> tuple[int, Float[np.ndarray, "3"]]:
    """Which target is the foot of a ground point, and where the point's middle lies in the foot [m]."""
    body, points = robot.ground_points[name]
    return targets.bodies.index(robot.body(body)), points.mean(0)


f64 = wp.float64


@wp.func
def smoothstep(x: wp.float64) -> wp.float64:
    y = wp.clamp(x, f64(0.0), f64(1.0))
    return y * y * (f64(3.0) - f64(2.0) * y)


@wp.func
def bridge(values: wp.array(dtype=wp.vec3d), known: wp.array2d(dtype=int), first: int, last: int, span: int):
    """Between known values (flag column 0) a smooth way from the last to zero and on to the next, at most `span` each."""
    t = first
    while t <= last:
        if known[t, 0] > 0:
            t += 1
        else:
            stop = t
            while stop <= last and known[wp.min(stop, last), 0] == 0:
                stop += 1
            before = wp.vec3d(f64(0.0), f64(0.0), f64(0.0))
            after = before
            if t > first:
                before = values[t - 1]
            if stop <= last:
                after = values[stop]
            # A gap shorter than two spans is crossed in one go, without touching zero.
            reach = f64(wp.min(span, stop - t + 1))
            for k in range(t, stop):
                fall = smoothstep(f64(1.0) - f64(k - t + 1) / reach)
                rise = smoothstep(f64(1.0) - f64(stop - k) / reach)
                values[k] = before * fall + after * rise
            t = stop


@wp.func
def find_stands(
    end: int,
    vector: wp.vec3d,
    first: int,
    last: int,
    limits: wp.vec4d,
    drift: wp.float64,
    shortest: int,
    position: wp.array(dtype=wp.vec3d),
    rotation: wp.array(dtype=wp.vec4d),
    stands: wp.array2d(dtype=int),
):
    """From the first to the last frame that is low and slow, as long as it stays about low and slow between them.

    `limits` are low, high [m], slow, fast [m per frame]. What is about low and slow at an end of the clip stands up to it.
    """
    begun = int(-1)
    sure = int(-1)
    pause = int(0)
    entered = int(-1)
    origin = wp.vec3d(f64(0.0), f64(0.0), f64(0.0))
    for t in range(first, last + 2):
        stays = int(0)
        begins = int(0)
        if t <= last:
            here = position[t] + rotate(rotation[t], vector)
            step = f64(1.0e9)
            if t > first:
                step = wp.length(here - position[t - 1] - rotate(rotation[t - 1], vector))
            if t < last:
                step = wp.min(step, wp.length(position[t + 1] + rotate(rotation[t + 1], vector) - here))
            if here[2] < limits[1] and step < limits[3]:
                stays = 1
                if here[2] < limits[0] and step < limits[2]:
                    begins = 1
            if begun >= 0:
                away = here - origin
                if away[0] * away[0] + away[1] * away[1] > drift * drift:
                    # The pause is no short gap, so that it stays one.
                    stays = 0
                    pause = shortest
            elif pause > 0:
                pause -= 1
                begins = 0
        if stays == 0:
            if begun >= 0:
                stop = sure + 1
                if t > last:
                    stop = last + 1
                for k in range(begun, stop):
                    stands[k, end] = 1
            begun = -1
            entered = -1
        else:
            if entered < 0:
                entered = t
            if begins > 0:
                sure = t
                if begun < 0:
                    begun = t
                    origin = position[t] + rotate(rotation[t], vector)
                    if entered == first:
                        begun = first


@wp.func
def drop_short(end: int, first: int, last: int, shortest: int, stands: wp.array2d(dtype=int)):
    """Short gaps are filled, then short stands taken out."""
    for wanted in range(2):
        t = first
        while t <= last:
            stop = t
            while stop <= last and stands[wp.min(stop, last), end] == stands[t, end]:
                stop += 1
            inside = t > first and stop <= last
            if stop - t < shortest and stands[t, end] == wanted and (wanted == 1 or inside):
                for k in range(t, stop):
                    stands[k, end] = 1 - wanted
            t = stop


@wp.func
def run_start(stands: wp.array2d(dtype=int), end: int, first: int, t: int) -> int:
    start = t
    while start > first and stands[wp.max(start - 1, first), end] > 0:
        start -= 1
    return start


@wp.func
def set_run(
    anchors: wp.array2d(dtype=wp.vec3d), stands: wp.array2d(dtype=int), end: int, start: int, last: int, place: wp.vec3d
):
    """One place for the whole stand that begins at `start`."""
    t = start
    while t <= last and stands[wp.min(t, last), end] > 0:
        anchors[t, end] = place
        t += 1


@wp.func
def place_anchors(
    first: int,
    last: int,
    length: wp.float64,
    found: wp.array2d(dtype=wp.vec3d),
    stands: wp.array2d(dtype=int),
    anchors: wp.array2d(dtype=wp.vec3d),
    settled: wp.array2d(dtype=int),
):
    """Each standing end at the mean of where it was found; ends that stand together as far apart as they are on the foot."""
    for end in range(2):
        t = first
        while t <= last:
            total = wp.vec3d(f64(0.0), f64(0.0), f64(0.0))
            stop = t
            while stop <= last and stands[wp.min(stop, last), end] > 0:
                total += found[stop, end]
                stop += 1
            if stop > t:
                set_run(anchors, stands, end, t, last, total / f64(stop - t))
            t = stop + 1
    for t in range(first, last + 1):
        for end in range(2):
            settled[t, end] = 0
            if stands[t, end] == 0:
                anchors[t, end] = found[t, end]
    for t in range(first, last + 1):
        both = stands[t, 0] * stands[t, 1]
        if t > first:
            both = both * (1 - stands[t - 1, 0] * stands[t - 1, 1])
        if both > 0:
            way = anchors[t, 1] - anchors[t, 0]
            way = wp.vec3d(way[0], way[1], f64(0.0))
            way = way * (length / wp.max(wp.length(way), f64(1.0e-6)))
            heel_run = run_start(stands, 0, first, t)
            toe_run = run_start(stands, 1, first, t)
            # An end that stood with the other before stays where it is; else both give in alike.
            heel = (anchors[t, 0] + anchors[t, 1] - way) * f64(0.5)
            if settled[heel_run, 0] > 0:
                heel = anchors[t, 0]
            elif settled[toe_run, 1] > 0:
                heel = anchors[t, 1] - way
            settled[heel_run, 0] = 1
            settled[toe_run, 1] = 1
            set_run(anchors, stands, 0, heel_run, last, heel)
            set_run(anchors, stands, 1, toe_run, last, heel + way)


@wp.func
def inverse(q: wp.vec4d) -> wp.vec4d:
    return wp.vec4d(q[0], -q[1], -q[2], -q[3])


@wp.func
def level_turn(way: wp.vec3d, sole: wp.vec3d) -> wp.vec4d:
    """The turn about the vertical that brings the sole along `way`."""
    half = f64(0.5) * (wp.atan2(way[1], way[0]) - wp.atan2(sole[1], sole[0]))
    return wp.vec4d(wp.cos(half), f64(0.0), f64(0.0), wp.sin(half))


@wp.func
def level_feet(
    first: int,
    last: int,
    sole: wp.vec3d,
    level: int,
    stands: wp.array2d(dtype=int),
    anchors: wp.array2d(dtype=wp.vec3d),
    rotation: wp.array(dtype=wp.vec4d),
    flags: wp.array2d(dtype=int),
    values: wp.array(dtype=wp.vec3d),
):
    """Turn a foot level and along its anchors while heel and toe stand, going over to the person's own turn beside."""
    zero = wp.vec3d(f64(0.0), f64(0.0), f64(0.0))
    # Where a person's foot is flat the robot's is level: what is left of that on average is how the two feet's axes differ,
    # standing or not.
    tilt = zero
    flat_count = f64(0.0)
    for t in range(first, last + 1):
        flags[t, 0] = stands[t, 0] * stands[t, 1]
        if flags[t, 0] > 0:
            tilt += rotation_vector(multiply(inverse(rotation[t]), level_turn(anchors[t, 1] - anchors[t, 0], sole)))
            flat_count += f64(1.0)
    if flat_count > f64(0.0):
        for t in range(first, last + 1):
            rotation[t] = multiply(rotation[t], from_rotation_vector(tilt / flat_count))
    for t in range(first, last + 1):
        values[t] = zero
        if flags[t, 0] > 0:
            flat = level_turn(anchors[t, 1] - anchors[t, 0], sole)
            values[t] = rotation_vector(multiply(flat, inverse(rotation[t])))
    bridge(values, flags, first, last, level)
    for t in range(first, last + 1):
        rotation[t] = multiply(from_rotation_vector(values[t]), rotation[t])


@wp.func
def hold_points(
    first: int,
    last: int,
    heel: wp.vec3d,
    toe: wp.vec3d,
    sole: wp.array(dtype=wp.vec3d),
    lead: int,
    stands: wp.array2d(dtype=int),
    anchors: wp.array2d(dtype=wp.vec3d),
    rotation: wp.array(dtype=wp.vec4d),
    position: wp.array(dtype=wp.vec3d),
    flags: wp.array2d(dtype=int),
    values: wp.array(dtype=wp.vec3d),
):
    """Shift a foot so that its standing points lie on their anchors, bending the swing between; nothing below the floor."""
    zero = wp.vec3d(f64(0.0), f64(0.0), f64(0.0))
    for t in range(first, last + 1):
        wanted = zero
        count = f64(0.0)
        lowest = f64(1.0e9)
        for end in range(2):
            if stands[t, end] > 0:
                vector = heel
                if end == 1:
                    vector = toe
                point = rotate(rotation[t], vector)
                wanted += anchors[t, end] - point
                lowest = wp.min(lowest, point[2])
                count += f64(1.0)
        flags[t, 0] = 0
        values[t] = zero
        if count > f64(0.0):
            flags[t, 0] = 1
            values[t] = wp.vec3d(wanted[0] / count, wanted[1] / count, -lowest) - position[t]
    bridge(values, flags, first, last, lead)
    for t in range(first, last + 1):
        place = position[t] + values[t]
        lowest = f64(1.0e9)
        for k in range(sole.shape[0]):
            lowest = wp.min(lowest, place[2] + rotate(rotation[t], sole[k])[2])
        position[t] = wp.vec3d(place[0], place[1], place[2] + wp.max(-lowest, f64(0.0)))


@wp.func
def share_of_stands(
    first: int, last: int, span: int, stands: wp.array2d(dtype=int), share: wp.array2d(dtype=wp.float64)
):
    """Which share of about `span` frames around each one the foot stands at all, and on heel and toe."""
    for t in range(first, last + 1):
        standing = f64(0.0)
        flat = f64(0.0)
        count = f64(0.0)
        for k in range(wp.max(first, t - span / 2), wp.min(last, t + span / 2) + 1):
            standing += f64(wp.max(stands[k, 0], stands[k, 1]))
            flat += f64(stands[k, 0] * stands[k, 1])
            count += f64(1.0)
        share[t, 0] = standing / count
        share[t, 1] = flat / count


@wp.kernel
def _hold(
    starts: wp.array(dtype=int),
    ends: wp.array(dtype=int),
    heel: wp.vec3d,
    toe: wp.vec3d,
    sole: wp.array(dtype=wp.vec3d),
    limits: wp.vec4d,
    drift: wp.float64,
    shortest: int,
    lead: int,
    level: int,
    found: wp.array2d(dtype=wp.vec3d),
    position: wp.array(dtype=wp.vec3d),
    rotation: wp.array(dtype=wp.vec4d),
    stands: wp.array2d(dtype=int),
    share: wp.array2d(dtype=wp.float64),
    anchors: wp.array2d(dtype=wp.vec3d),
    flags: wp.array2d(dtype=int),
    values: wp.array(dtype=wp.vec3d),
):
    clip = wp.tid()
    first = starts[clip]
    last = ends[clip] - 1
    find_stands(0, heel, first, last, limits, drift, shortest, position, rotation, stands)
    find_stands(1, toe, first, last, limits, drift, shortest, position, rotation, stands)
    for end in range(2):
        drop_short(end, first, last, shortest, stands)
    place_anchors(first, last, wp.length(toe - heel), found, stands, anchors, flags)
    level_feet(first, last, toe - heel, level, stands, anchors, rotation, flags, values)
    hold_points(first, last, heel, toe, sole, lead, stands, anchors, rotation, position, flags, values)
    share_of_stands(first, last, level, stands, share)


@wp.kernel
def _rest(
    starts: wp.array(dtype=int),
    ends: wp.array(dtype=int),
    limits: wp.vec4d,
    drift: wp.float64,
    shortest: int,
    lead: int,
    level: int,
    spots: wp.array(dtype=wp.vec3d),
    unturned: wp.array(dtype=wp.vec4d),
    flags: wp.array2d(dtype=int),
    shift: wp.array(dtype=wp.vec3d),
    share: wp.array2d(dtype=wp.float64),
):
    clip = wp.tid()
    first = starts[clip]
    last = ends[clip] - 1
    find_stands(0, wp.vec3d(), first, last, limits, drift, shortest, spots, unturned, flags)
    drop_short(0, first, last, shortest, flags)
    t = first
    while t <= last:
        total = wp.vec3d(f64(0.0), f64(0.0), f64(0.0))
        stop = t
        while stop <= last and flags[wp.min(stop, last), 0] > 0:
            total += spots[stop]
            stop += 1
        for k in range(t, stop):
            away = total / f64(stop - t) - spots[k]
            shift[k] = wp.vec3d(away[0], away[1], f64(0.0))
        t = stop + 1
    bridge(shift, flags, first, last, lead)
    share_of_stands(first, last, level, flags, share)
