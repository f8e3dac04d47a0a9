"""An example trial of our own making: simulated patients in the shape of ADaM, none of them real.

**Every patient here is simulated.** No record comes from a person or from another data set; names of sites, dates and
identifiers are invented. The trial has three arms (placebo, low and high dose), 24 weeks, and the ADAS-Cog(11) as its
endpoint. How the data come about:

1. *Patients* (``people.py``): age, sex, education, APOE ε4 alleles, duration, weight and height are drawn; the severity
   at baseline is normal on the logit of ADAS-Cog/70, the MMSE follows it with noise, and only patients with an MMSE of
   10 to 26 enter. Randomisation is in permuted blocks of six within sites.
2. *Course* (``course.py``): logistic in time. On the logit scale patient i declines at the rate
   0.32 (1 + 0.195 (alleles − 0.73) − 0.024 (age − 74)) + 0.12 severity − 0.10 MMSE + 0.34 u per year (severity and MMSE
   standardised, u normal and never seen). A dose adds to that rate a constant found such that the expected total at
   Week 24 differs from placebo by ``effect``: **that is the true effect**, the mean over the trial's patients had all
   of them stayed on treatment.
3. *Items*: each of the 11 items has its own difficulty, each patient a stable profile over items, each visit a form of
   the day common to all items, each answer noise; answers are whole numbers from 0 to the item's maximum.
4. *Adverse events* (``follow.py``): Poisson, more with dose for skin and stomach; the start of a few is not recorded.
5. *Who is missing*: the chance to leave grows with dose (adverse events), with the worsening seen at the last visit
   (missing at random), and a little with the true worsening that nobody sees (missing not at random). Some who leave
   come to an early-termination visit. Visits are missed (2.5 %), items left out (0.4 %, and 0.6 % of forms more than
   30 % of the items), and a few covariates are blank.
6. *Tables* (``subjects.py``, ``scores.py``, ``safety.py``): ADSL, ADQSADAS (with windows, flags, baseline, change and
   LOCF by ``trialtwin.data.derive``), ADAE, ADTTE.

Rates of decline with APOE and age follow Conrado et al. 2014 (doi:10.1007/s10928-014-9375-z); all other numbers were
chosen so that spread, dropout and prognosis look like a trial of this kind. They are no estimates of anything.
"""

from trialtwin.data.examples.trial import generate_trial, generate_truth

__all__ = ["generate_trial", "generate_truth"]
