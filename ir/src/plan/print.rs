//! Plans as people read them: where every buffer is, then step by step what is computed and how.

use super::*;
use crate::kernel::print::statements;
use std::fmt;

impl fmt::Display for Layout {
    /// The logical axes outermost first, halos in brackets, blocks behind a slash: `0 2[1+1] 3[1+1] 1/8`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, &axis) in self.order.iter().enumerate() {
            write!(f, "{}{axis}", if i == 0 { "" } else { " " })?;
            let (before, behind) = self.halo_of(axis as usize);
            if (before, behind) != (0, 0) {
                write!(f, "[{before}+{behind}]")?;
            }
            if let Some(block) = self.block.filter(|block| block.axis == axis) {
                write!(f, "/{}", block.lanes)?;
            }
        }
        match self.halo_value {
            Some(value) => write!(f, " halo {}", value.value()),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Input(i) => write!(f, "input {i}"),
            Place::Output(i) => write!(f, "output {i}"),
            Place::Parameter(i) => write!(f, "parameter {i}"),
            Place::State(i) => write!(f, "state {i}"),
            Place::Constant(offset) => write!(f, "constants + {offset}"),
            Place::Literal(offset, _) => write!(f, "constants + {offset}, literal"),
            Place::Arena(offset) => write!(f, "arena + {offset}"),
            Place::Scratch(offset) => write!(f, "scratch + {offset}"),
            Place::Unused => write!(f, "unused"),
        }
    }
}

impl fmt::Display for Schedule {
    /// The outer loops, the loops of each fold, the vector and the tile: `loops 0 2 3 1, fold 5 6 4, vector 1 by 8`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let axes =
            |f: &mut fmt::Formatter<'_>, order: &[Axis]| order.iter().try_for_each(|axis| write!(f, " {}", axis.0));
        write!(f, "loops")?;
        axes(f, &self.order)?;
        for order in &self.fold_orders {
            write!(f, ", fold")?;
            axes(f, order)?;
        }
        match self.vector {
            Some(Vector::Outer { axis, lanes }) => write!(f, ", vector {} by {lanes}", axis.0)?,
            Some(Vector::Inner) => write!(f, ", vector inside")?,
            None => {}
        }
        self.tile.iter().try_for_each(|(axis, points)| write!(f, ", tile {} by {points}", axis.0))?;
        for Rest { axis: end, tile } in &self.rests {
            write!(f, ", end of {}:", end.0)?;
            tile.iter().try_for_each(|(axis, points)| write!(f, " {} by {points}", axis.0))?;
        }
        if self.streaming {
            write!(f, ", streaming")?;
        }
        if self.gather {
            write!(f, ", gathering")?;
        }
        if self.ahead { write!(f, ", asking ahead") } else { Ok(()) }
    }
}

impl fmt::Display for Plan {
    /// One line a buffer that has a place, a few lines a step; the sizes of the regions last.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, buffer) in self.buffers.iter().enumerate().filter(|(_, buffer)| buffer.place != Place::Unused) {
            let PlannedBuffer { name, dtype, dims, layout, place } = buffer;
            let layout = if layout.is_row_major() { String::new() } else { format!(" layout {layout}") };
            writeln!(f, "b{i} {name}: {dtype}{dims:?}{layout}, {} bytes, {place}", buffer.bytes())?;
        }
        let name = |id: BufferId| format!("b{}", id.0);
        for (title, steps) in [("setup", &self.setup), ("step", &self.steps)] {
            for (number, step) in steps.iter().enumerate() {
                let outer = step.kernel.outer.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
                writeln!(
                    f,
                    "{title} {number}: {} ({}) over [{outer}], {}",
                    step.about,
                    step.nodes.join(" "),
                    step.schedule
                )?;
                for line in statements(&step.kernel, &name) {
                    writeln!(f, "  {line}")?;
                }
            }
        }
        for band in &self.bands {
            let (first, last) = (band.steps.start, band.steps.end - 1);
            writeln!(f, "band: steps {first} to {last} at each of {} positions", band.positions)?;
        }
        for port in &self.outputs {
            writeln!(f, "-> {} = b{}", port.name, port.buffer.0)?;
        }
        for state in &self.states {
            if let Some(next) = state.next {
                writeln!(f, "=> {} = b{}", state.name, next.0)?;
            }
        }
        let Plan { constant_bytes, arena_bytes, lower_bound_bytes, unplanned_bytes, .. } = self;
        if self.scratch_bytes > 0 {
            writeln!(f, "scratch {} bytes a thread", self.scratch_bytes)?;
        }
        writeln!(
            f,
            "constants {constant_bytes} bytes, arena {arena_bytes} bytes (at least {lower_bound_bytes}, without reuse \
             {unplanned_bytes})"
        )
    }
}
