//! Somebody asks for a promotion: it is begun, or refused with the reason; or what would be done is
//! told.

use std::fmt::Write as _;

use outgrow_admin::PromoteRequest;
use outgrow_core::Ticks;
use outgrow_postgres::promotion::{Leading, Problem, Wish, Work};

use super::{Known, One, named};

impl One {
    /// Begins it, or tells what would be done. Gives what is told, and the number of what has begun.
    pub(super) fn ask(
        &mut self,
        name: &str,
        request: &PromoteRequest,
        (shared, sight): Known<'_>,
        (leading, now): (Leading, Ticks),
    ) -> Result<(String, Option<(String, u64)>), String> {
        let wish = Wish {
            to: request.to.clone(),
            without_fence: request.force_without_fence,
            accepts_loss: request.accept_loss,
        };
        let work = match &self.doing {
            Some(_) => Work::Running,
            None => Work::None,
        };
        let refused = |problem: Problem| {
            let Problem { why, remedy } = problem;
            named(&format!("{name}: {why}\nnext step: {remedy}"), name)
        };
        if request.dry_run {
            let asked = (sight, leading);
            let to = self
                .machine
                .refusal(now, &self.terms, asked, (&wish, &work));
            let mut text = match &to {
                Ok(to) => format!("{name}: {to} would be promoted\n"),
                Err(problem) => {
                    format!("nothing would be promoted: {}\n", refused(problem.clone()))
                }
            };
            for line in self.machine.preview(now, &self.terms, sight, &wish) {
                let _ = writeln!(text, "  {}", named(&line, name));
            }
            return Ok((text.trim_end().to_owned(), None));
        }
        let asked = (sight, leading);
        let steps = (self.machine).ask(now, &self.terms, asked, (wish, &work));
        let steps = steps.map_err(refused)?;
        self.take(steps, name, shared);
        self.tell(name, shared, now);
        let number = self.machine.told(now).begun;
        Ok((
            format!("{name}: it has begun"),
            Some((name.to_owned(), number)),
        ))
    }
}
