"""What CDISC standards fix whatever the study: controlled terms, and how a variable is stored by its name.

Terms are the submission values of the CDISC controlled terminology for SDTM and ADaM (NCI EVS, code lists named beside
them), for the variables that the data sets read here have. Older editions' terms are kept where data may carry them.
"""

from trialtwin.data.dataset import Storage

YES_NO = ("Y", "N")

# C66731, C66781, C66790, C74457 (with the SDTMIG's MULTIPLE), C66769, C66768, C81223 (DATEFL)
TERMS: dict[str, tuple[str, ...]] = {
    "SEX": ("F", "M", "U", "UNDIFFERENTIATED", "INTERSEX"),
    "AGEU": ("YEARS", "MONTHS", "WEEKS", "DAYS", "HOURS"),
    "ETHNIC": ("HISPANIC OR LATINO", "NOT HISPANIC OR LATINO", "NOT REPORTED", "UNKNOWN"),
    "RACE": (
        "AMERICAN INDIAN OR ALASKA NATIVE",
        "ASIAN",
        "BLACK OR AFRICAN AMERICAN",
        "MULTIPLE",
        "NATIVE HAWAIIAN OR OTHER PACIFIC ISLANDER",
        "NOT REPORTED",
        "OTHER",
        "UNKNOWN",
        "WHITE",
    ),
    "AESEV": ("MILD", "MODERATE", "SEVERE"),
    "AEOUT": (
        "FATAL",
        "NOT RECOVERED/NOT RESOLVED",
        "RECOVERED/RESOLVED",
        "RECOVERED/RESOLVED WITH SEQUELAE",
        "RECOVERING/RESOLVING",
        "UNKNOWN",
    ),
    "ASTDTF": ("D", "M", "Y"),
    "AENDTF": ("D", "M", "Y"),
    "ADTF": ("D", "M", "Y"),
}

# C81224 is extensible: another value may be a sponsor's own, and is a derivation that no rule here knows.
DERIVATIONS = (
    "AVERAGE",
    "BLOCF",
    "BOCF",
    "COPY",
    "ENDPOINT",
    "EXTRAP",
    "INTERP",
    "LOCF",
    "LOV",
    "MAXIMUM",
    "MEDIAN",
    "MINIMUM",
    "ML",
    "MOTH",
    "MOV",
    "PHANTOM",
    "POCF",
    "SOCF",
    "SUM",
    "WC",
    "WOCF",
    "WOV",
)

SERIOUS = ("AESCAN", "AESCONG", "AESDISAB", "AESDTH", "AESHOSP", "AESLIFE", "AESOD", "AESMIE")

_NUMBERS = frozenset(
    (
        "AVAL",
        "BASE",
        "CHG",
        "PCHG",
        "ADY",
        "ASTDY",
        "AENDY",
        "AVISITN",
        "VISITNUM",
        "PARAMN",
        "AWLO",
        "AWHI",
        "AWTARGET",
        "AWTDIFF",
        "CNSR",
        "AESEQ",
        "SRCSEQ",
        "AGE",
        "TRT01PN",
        "TRT01AN",
        "TRTPN",
        "TRTAN",
        "HEIGHTBL",
        "WEIGHTBL",
        "BMIBL",
    )
)
_CHARACTERS = frozenset(
    (
        "STUDYID",
        "USUBJID",
        "SUBJID",
        "SITEID",
        "PARAM",
        "PARAMCD",
        "AVISIT",
        "VISIT",
        "DTYPE",
        "ARM",
        "TRT01P",
        "TRT01A",
        "TRTP",
        "TRTA",
        "SEX",
        "RACE",
        "ETHNIC",
        "AGEU",
        "AEDECOD",
        "AETERM",
        "AESEV",
        "AESER",
        "AEOUT",
        "DCDECOD",
        "SRCDOM",
        "SRCVAR",
    )
)


def storage_of(name: str) -> Storage | None:
    """Tell how a variable of this name is stored in ADaM, or ``None`` where the name does not say.

    Examples
    --------
    >>> storage_of("TRTSDT"), storage_of("SAFFL"), storage_of("AVAL"), storage_of("COLOUR")
    (<Storage.DATE: 'date'>, <Storage.CHAR: 'char'>, <Storage.NUM: 'num'>, None)
    """
    if name in _NUMBERS:
        return Storage.NUM
    if name in _CHARACTERS or is_flag(name) or name.endswith("DTC"):
        return Storage.CHAR
    if name.endswith("DT"):
        return Storage.DATE
    if name.endswith("DTM"):
        return Storage.DATETIME
    return None


def is_flag(name: str) -> bool:
    """Tell whether a variable of this name is a flag that takes Y, N or blank."""
    return name.endswith("FL") or name == "AESER" or name in SERIOUS
